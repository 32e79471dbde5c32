"""Finds the columns with image names, labels, captions and splits, by header and by content."""

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
"""Headers of pandas' row numbers."""
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
"""Use → headers of such columns, the likeliest first."""
LEAST_LABELS = 20
"""From this many rows on, a column whose values are all different is not a label but a checksum or a number."""
SPOKEN_OF = 0.5
"""Least share of a column's cells that name images, and of the images that tables name; with less they are another set's."""
SAMPLED = 200
"""Number of rows searched for a column of names."""


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
    """The column that names images. Of several, paths first, then by header, because row numbers may match names too."""
    ranks = []
    for number, column in enumerate(table.columns):
        cells = [row[number] for row in sample if index.find(row[number], folder) is not None]
        if cells and len(cells) >= SPOKEN_OF * len(sample):
            paths = 2 * sum(is_path(str(cell).partition("#")[0]) for cell in cells) > len(cells)
            called = table.header and re.sub(r"\W+", "_", column.strip().lower()) in IMAGES
            ranks.append((paths, called, len(cells), not UNNAMED.fullmatch(column.strip()), -number))
    return -max(ranks)[-1] if ranks else None


def is_path(text: str) -> bool:
    """Whether a text ends like a picture's file name."""
    return PurePosixPath(text).suffix.lower() in PICTURES


def _by_header(table: Table, rest: Sequence[int]) -> dict[ColumnUse, int]:
    named = {re.sub(r"\W+", "_", table.columns[number].strip().lower()): number for number in rest}
    found: dict[ColumnUse, int] = {}
    for use, known in KNOWN.items():
        numbers = [named[name] for name in known if name in named]
        if use == "label":  # prefer a column with several values: breed over species, if all are cats
            values = {number: {str(row[number]) for row in table.rows} for number in numbers}
            numbers = [number for number in numbers if not are_own(table, number)]
            numbers.sort(key=lambda number: len(values[number]) < 2)
        if numbers and (use != "split" or _are_splits(table, numbers[0])):
            found[use] = numbers[0]
    return found


def _by_content(table: Table, rest: Sequence[int]) -> dict[ColumnUse, int]:
    """The use of the second column in a table without a header: from the file's name, else captions if it has words."""
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
    """The unread columns, and the setting that takes the first: as a caption if it has several words."""
    place = table.columns.index(columns[0])
    cells = [row[place] for row in table.rows[:SAMPLED] if row[place] is not None]
    texts = [isinstance(cell, list) or len(str(cell).split()) > 2 for cell in cells]
    use = "caption" if 2 * sum(texts) > len(texts) else "label"
    use = "split" if columns[0].strip().lower() in ("split", "fold", "partition", "subset") else use
    return f"{counted(columns)} (shard.columns: {{{use}: {columns[0]}}} takes one)"


def are_own(table: Table, number: int) -> bool:
    """Whether all values are different, like ids or sentences, unlike labels."""
    cells = [row[number] for row in table.rows if row[number] is not None]
    own = len({str(cell) for cell in cells}) == len(cells)
    several = 2 * sum(len(str(cell).split()) > 3 for cell in cells) > len(cells) > 1
    return own and (several or len(cells) > LEAST_LABELS)
