"""Text files named like their image: captions, or boxes and labels as numbers."""

import re
from collections.abc import Iterable, Mapping
from itertools import islice

from shards.layouts.listed import clean_caption
from shards.layouts.tables import lines_of
from shards.layouts.walking import Files

TEXTS = "*.txt"
"""In `shard.tables`: the text file of the same name beside each image."""
EXTENSIONS = ("txt", "caption")
"""Extensions of such files; trainers of diffusion models write `.caption`."""
TEXTS_LOOKED_AT = 50
"""Words that indicate boxes instead of captions."""


def texts_beside(files: Files, names: Iterable[str]) -> dict[str, str]:
    """Text files named like an image: text → image."""
    images = {name.rpartition(".")[0]: name for name in names}
    found = {}
    for name in files.others:
        stem, _, extension = name.rpartition(".")
        if extension.lower() in EXTENSIONS and stem in images:
            found[name] = images[stem]
    return found


def hold_numbers(files: Files, texts: Mapping[str, str]) -> str:
    """A note if the texts are boxes or labels, judged by the first of them; "" if they are captions."""
    lines = [line for name in islice(texts, TEXTS_LOOKED_AT) for line in captions_in(files, name)]
    if not lines or not all(re.fullmatch(r"[\d.eE+\- ]+", line) for line in lines):
        return ""
    return f"{len(texts):,} texts beside the images hold numbers ({lines[0][:40]}): boxes or labels, not captions"


def captions_in(files: Files, name: str) -> list[str]:
    """A text file's captions, one per line."""
    text = files.locate(name).read().decode("utf-8-sig", "surrogateescape")
    return [caption for line in lines_of(text) if (caption := clean_caption(line))]
