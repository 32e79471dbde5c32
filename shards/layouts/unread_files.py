"""Files about the images in formats that are not read: an annotation's JSON, a YAML, a spreadsheet, an array."""

import re
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import PurePosixPath

from shards.layouts.beside import NO_TABLES
from shards.layouts.listed import Source, SourceImage
from shards.layouts.names import counted
from shards.layouts.tables import SUFFIXES
from shards.layouts.walking import Files

TEXTS = (
    ".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".txt", ".lst", ".xml", ".yaml", ".yml", ".toml", ".md", ".data",
)  # fmt: skip
SHEETS = (".xlsx", ".xls", ".ods", ".npy", ".npz", ".pkl", ".pickle", ".h5", ".hdf5", ".db", ".sqlite", ".sqlite3", ".feather",
          ".arrow", ".rds", ".mat", ".pt", ".pth")  # fmt: skip
"""Extensions of tables and arrays that are not opened."""
PACKED = (".gz", ".bz2", ".xz", ".zst", ".zip")
TOLD = re.compile(
    r"label|class|caption|categor|annotation|metadata|target|attribute|ground.?truth|(?<![a-z])(meta|gt|y)(?![a-z])",
    re.IGNORECASE,
)
"""Words in names of files with labels or captions."""
LOOKED_FOR, LOOKED_INTO = 20, 50
"""Number of image names searched for per text, and number of texts."""
MOST_BYTES = 1 << 26
HOW = "a table of names and labels or captions would be (metadata.csv, metadata.jsonl)"


def speaking(files: Files, found: Source, told: Iterable[str]) -> list[str]:
    """Notes about files that nothing read and no other note names, if they name the images or are called after labels."""
    said = " ".join(told)
    left = [
        name
        for name in files.others
        if name not in found.read and name not in said and not NO_TABLES.search(name.rpartition("/")[2])
    ]
    images = {name.rpartition(".")[0] for name in files.names}
    texts = (name for name in left if _suffix(name) in TEXTS and name.rpartition(".")[0] not in images)
    sheets = [name for name in left if _suffix(name) in SHEETS and TOLD.search(PurePosixPath(name).stem)]
    named, as_many = _looked_into(files, islice(texts, LOOKED_INTO), found.images)
    notes = [f"{counted(named, 3)}: names these images, and is not read; {HOW}"] if named else []
    if as_many:
        notes.append(f"{counted(as_many, 3)}: one line per image, but no names, and not read; {HOW}")
    packed = [
        name for name in left if _suffix(name) in PACKED and _suffix(name.rpartition(".")[0]) in SUFFIXES
    ]
    if packed:
        notes.append(f"{counted(packed, 3)}: packed, and not read: unpack it to have its labels or captions")
    if sheets:
        notes.append(f"{counted(sheets, 3)}: named after labels, and not read; {HOW}")
    return notes


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def _looked_into(
    files: Files, texts: Iterable[str], images: Sequence[SourceImage]
) -> tuple[list[str], list[str]]:
    """The texts that contain at least half of a sample of image names; and those with one line per image instead."""
    step = max(1, len(images) // LOOKED_FOR)
    bases = [image.name.rpartition("/")[2] for image in images[::step]]
    patterns = [
        re.compile(rb"(?<!\w)" + re.escape(base.encode("utf-8", "surrogateescape"))) for base in bases
    ]
    named, as_many = [], []
    for name in texts:
        if files.size(name) > MOST_BYTES:
            continue
        data = files.locate(name).read()
        lines = data.rstrip().count(b"\n") + 1
        if patterns and 2 * sum(pattern.search(data) is not None for pattern in patterns) >= len(patterns):
            named.append(name)
        elif (
            len(images) > 1
            and lines in (len(images), len(images) + 1)
            and TOLD.search(PurePosixPath(name).stem)
        ):
            as_many.append(name)
    return named, as_many
