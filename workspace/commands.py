"""The parser of a command `python -m NAME`, whose help begins with the docstring of its module."""

import argparse


def parser_of(name: str, about: str | None) -> argparse.ArgumentParser:
    """A parser for `python -m NAME`; `about`, the text above its options, keeps its line breaks."""
    return argparse.ArgumentParser(
        prog=f"python -m {name}",
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
