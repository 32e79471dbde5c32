"""What the columns of a table are: names of images, labels, captions, splits, by what they are called and by what is in them."""

import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from shards.layouts.formats import PICTURES
from shards.layouts.name_index import NameIndex
from shards.layouts.names import counted
from shards.layouts.reading import ColumnUse, Reading
from shards.layouts.split_lists import FLAGS, are_splits
from shards.layouts.tables import Table

IMAGES = frozenset({
    "image", "images", "image_id", "image_name", "image_path", "img", "img_id", "img_name", "img_path", "imageid", "imagename",
    "file", "file_name", "filename", "file_path", "filepath", "path", "name", "id", "photo", "picture",
})  # fmt: skip
UNNAMED = re.compile(r"(unnamed.*|index|\d*)", re.IGNORECASE)
"""Columns of row numbers, as pandas writes them."""
LABELS = (
    "label", "labels", "class", "class_name", "classname", "class_label", "category", "category_name", "cls", "class_id",
    "classid", "label_id", "target", "species", "breed", "identity", "y",
)  # fmt: skip
CAPTIONS = (
    "caption", "captions", "text", "texts", "txt", "prompt", "description", "sentence", "sentences", "comment", "alt",
    "alt_text", "caption_en", "caption_text", "title",
)  # fmt: skip
SPLITS = ("split", "partition", "set", "subset", "data_set", "dataset", *FLAGS)
KNOWN: dict[ColumnUse, tuple[str, ...]] = {"label": LABELS, "caption": CAPTIONS, "split": SPLITS}
"""Use → names of its columns, the likeliest first."""
LEAST_LABELS = 20
"""Rows from which on a column with a value of its own in each is not a label: a checksum, a number."""
SPOKEN_OF = 0.5
"""Share of a column that must name images, and of the images that tables must speak of, or they are of another set."""
SAMPLED = 200
"""Rows by which a column of names is found."""


def uses_of(table: Table, index: NameIndex, reading: Reading) -> dict[ColumnUse, int] | None:
    """Use → number of the column; None where no column names images."""
    folder = table.name.rpartition("/")[0]
    folder = f"{folder}/" if folder else ""
    step = max(1, len(table.rows) // SAMPLED)
    sample = table.rows[::step]
    asked = {use: table.columns.index(name) for use, name in reading.columns.items() if name in table.columns}
    if "image" not in asked:
        column = _names_column(table, sample, index, folder)
        if column is None:
            return None
        asked["image"] = column
    rest = [number for number in range(len(table.columns)) if number not in asked.values()]
    guessed = _by_header(table, rest) if table.header else _by_content(table, rest)
    found: dict[ColumnUse, int] = {"image": asked.pop("image")}
    return found | {use: number for use, number in guessed.items() if use not in asked} | asked


def _names_column(table: Table, sample: Sequence[Sequence[Any]], index: NameIndex, folder: str) -> int | None:
    """The column that names images; of several the one of paths, then one that is called so: row numbers may be names too."""
    ranks = []
    for number, column in enumerate(table.columns):
        cells = [row[number] for row in sample if index.find(row[number], folder) is not None]
        if cells and len(cells) >= SPOKEN_OF * len(sample):
            paths = 2 * sum(is_path(str(cell).partition("#")[0]) for cell in cells) > len(cells)
            called = table.header and re.sub(r"\W+", "_", column.strip().lower()) in IMAGES
            ranks.append((paths, called, len(cells), not UNNAMED.fullmatch(column.strip()), -number))
    return -max(ranks)[-1] if ranks else None


def is_path(text: str) -> bool:
    """Whether a text ends as a picture's name does."""
    return PurePosixPath(text).suffix.lower() in PICTURES


def _by_header(table: Table, rest: Sequence[int]) -> dict[ColumnUse, int]:
    named = {re.sub(r"\W+", "_", table.columns[number].strip().lower()): number for number in rest}
    found: dict[ColumnUse, int] = {}
    for use, known in KNOWN.items():
        numbers = [named[name] for name in known if name in named]
        if use == "label":  # a column of one value tells nothing where another does: species beside breed
            values = {number: {str(row[number]) for row in table.rows} for number in numbers}
            numbers = [number for number in numbers if not are_own(table, number)]
            numbers.sort(key=lambda number: len(values[number]) < 2)
        if numbers and (use != "split" or _are_splits(table, numbers[0])):
            found[use] = numbers[0]
    return found


def _by_content(table: Table, rest: Sequence[int]) -> dict[ColumnUse, int]:
    """Of a table of two columns without a header: what its name says, else captions where there are words."""
    if len(rest) != 1:
        return {}
    words = set(re.findall("[a-z]+", table.name.lower()))
    if words & {"partition", "partitions", "split", "splits"} and _are_splits(table, rest[0]):
        return {"split": rest[0]}
    if words & {"label", "labels", "class", "classes", "identity"}:
        return {"label": rest[0]}
    values = [row[rest[0]] for row in table.rows]
    if any("://" in str(value) for value in values):
        return {}
    if any(isinstance(value, list) or len(str(value).split()) > 2 for value in values):
        return {"caption": rest[0]}
    own = len(values) > LEAST_LABELS and len({str(value) for value in values}) == len(values)
    return {} if own else {"label": rest[0]}


def _are_splits(table: Table, number: int) -> bool:
    return are_splits(table.columns[number], (row[number] for row in table.rows))


def how_to_take(columns: list[str], table: Table) -> str:
    """Names of columns that are not read, and the setting that takes the first; of several words a caption."""
    place = table.columns.index(columns[0])
    cells = [row[place] for row in table.rows[:SAMPLED] if row[place] is not None]
    texts = [isinstance(cell, list) or len(str(cell).split()) > 2 for cell in cells]
    use = "caption" if 2 * sum(texts) > len(texts) else "label"
    use = "split" if columns[0].strip().lower() in ("split", "fold", "partition", "subset") else use
    return f"{counted(columns)} (shard.columns: {{{use}: {columns[0]}}} takes one)"


def are_own(table: Table, number: int) -> bool:
    """Whether each row has a value of its own, ids or sentences, not labels."""
    cells = [row[number] for row in table.rows if row[number] is not None]
    own = len({str(cell) for cell in cells}) == len(cells)
    several = 2 * sum(len(str(cell).split()) > 3 for cell in cells) > len(cells) > 1
    return own and (several or len(cells) > LEAST_LABELS)
