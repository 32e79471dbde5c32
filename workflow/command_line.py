"""A stage's command line; its paths default to those in dvc.yaml."""

import argparse
import shlex
from dataclasses import MISSING, fields
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from workflow.stage import I, S, Stage
from workspace.quick_yaml import quick_yaml
from workspace.settings_help import settings_text

PARAMS = Path("params.yaml")
PIPELINES = (Path("dvc.yaml"), Path("demo/dvc.yaml"))


class _Help(argparse.Action):
    """Prints the help, with the stage's settings and their values in the file named by a preceding `--params`."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, *_: object) -> None:
        parser.epilog = settings_text(self.const, namespace.params)
        parser.print_help()
        parser.exit()


def parser_of(stage: Stage[S, I]) -> argparse.ArgumentParser:
    """A stage's command line."""
    parser = argparse.ArgumentParser(
        prog=f"python -m stages.{stage.name}",
        description=stage.about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
    )
    parser.add_argument(
        "-h",
        "--help",
        action=_Help,
        nargs=0,
        const=stage.settings,
        help="show this text and the stage's settings",
    )
    usual = usual_paths(stage.name)
    for name in inputs_of(stage):
        parser.add_argument(option_of(name), type=Path, default=usual.get(name), help=_usually(usual, name))
    parser.add_argument("--out", type=Path, help=_usually(usual, "out"))
    parser.add_argument("--metrics", type=Path, help=_usually(usual, "metrics"))
    parser.add_argument("--params", type=Path, default=PARAMS, help="the params file (params.yaml)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="override one setting; may be repeated; needs --out, so that no tracked artifact is overwritten",
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="run again even if a finished run is kept, as `dvc repro -f` does; an unfinished run is continued",
    )
    for option, about in stage.options.help.items():
        parser.add_argument(option_of(option), action="append", default=[], metavar="TEXT", help=about)
    return parser


def by_hand(stage: Stage[S, I], arguments: argparse.Namespace) -> str:
    """The command line that was typed, where it is not the workflow's own; else ""."""
    given, usual = vars(arguments), usual_paths(stage.name)
    paths = {name: given[name] for name in (*inputs_of(stage), "out", "metrics")}
    typed = [(name, str(path)) for name, path in paths.items() if path not in (None, usual.get(name))]
    typed += [("params", str(arguments.params))] if arguments.params != PARAMS else []
    typed += [(name, value) for name in (*stage.options.help, "set") for value in given[name]]
    words = [f"{option_of(name)}={shlex.quote(value)}" for name, value in typed]
    return " ".join([f"python -m stages.{stage.name}", *words]) if words else ""


def inputs_of(stage: Stage[S, I]) -> list[str]:
    """The names of what a stage always reads."""
    return [field.name for field in fields(stage.inputs) if field.default is MISSING]


def option_of(name: str) -> str:
    """The option for an input or another name."""
    return f"--{name.replace('_', '-')}"


def _usually(usual: dict[str, Path], name: str) -> str:
    return f"folder (in dvc.yaml: {usual[name]})" if name in usual else "folder"


def usual_paths(name: str) -> dict[str, Path]:
    """Option name → the path that dvc.yaml passes to this stage; empty if DVC could not read the file."""
    for path in PIPELINES:
        command = command_in(path, name)
        if command:
            words = shlex.split(command)
            return {
                word[2:].replace("-", "_"): Path(value)
                for word, value in pairwise(words)
                if word.startswith("--")
            }
    return {}


@lru_cache(maxsize=8)  # a stage asks three times
def _parsed(text: str) -> Any:
    return quick_yaml(text)


def command_in(pipeline: Path, name: str) -> str:
    """A stage's command in a dvc.yaml; "" if it has none."""
    try:
        return str(_parsed(pipeline.read_text(encoding="utf-8"))["stages"][name]["cmd"])
    except (FileNotFoundError, yaml.YAMLError, UnicodeDecodeError, TypeError, KeyError):
        return ""
