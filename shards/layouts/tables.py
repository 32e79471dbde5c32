"""Reads tables beside images into rows of values: CSV, TSV, text lists, JSON lines, JSON, Parquet.

Tables are untrusted data: nothing in them is run, their size is bounded, and each row is fitted to its header's columns.
"""

import csv
import io
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from workspace.errors import UserError
from workspace.exact.json_text import parse_json

MOST_TABLE_BYTES = 1 << 30
SUFFIXES = (".csv", ".tsv", ".txt", ".lst", ".jsonl", ".ndjson", ".json", ".parquet")
DELIMITERS = {".csv": ",;\t|", ".tsv": "\t", ".txt": "\t|,;", ".lst": "\t,"}
LINE_ENDS = re.compile(r"\r\n|\r|\n")
SNIFFED = 20
"""Number of lines that decide how a text is split into columns."""
TO_FILES = "`datasets` does so by `for i, row in enumerate(data): row['image'].save(f'{i:06}.png')`"
NO_PARQUET = "a Parquet file needs pyarrow: `pip install pyarrow`"


@dataclass(frozen=True)
class Table:
    """Rows of one file.

    Attributes:
        name: the file, relative to the source.
        columns: their names, or their numbers as text if the file has no header.
        rows: one value per column; None where a value is missing.
        header: whether the file names its columns.
    """

    name: str
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    header: bool = True


class MissingPackageError(UserError):
    """Reading a file needs a package that is not installed."""


def read_table(data: bytes, name: str, is_image: Callable[[str], bool]) -> Table | None:
    """A file's bytes as a table; None if the file is not a table.

    Args:
        data: the file's bytes.
        name: the file's name; its extension decides how it is read.
        is_image: whether a text names an image of the source; this tells a first row of values from a header.

    Raises:
        UserError: too large, or damaged.
    """
    if len(data) > MOST_TABLE_BYTES:
        raise UserError(f"{name} has {len(data):,} bytes, expected at most {MOST_TABLE_BYTES:,}")
    suffix = PurePosixPath(name).suffix.lower()
    if suffix == ".parquet":
        return _parquet(data, name)
    if suffix in (".jsonl", ".ndjson"):
        lines = [line for line in lines_of(_text(data)) if line.strip()]
        values = [parse_json(line, f"{name}, line {number}") for number, line in enumerate(lines, start=1)]
        return _records(values, name)
    if suffix == ".json":
        return _json(parse_json(_text(data), name), name, is_image)
    return _delimited(_text(data), name, is_image)


def _text(data: bytes) -> str:
    """UTF-8, or UTF-16 if it has a byte order mark; other bytes are kept as `surrogateescape` does for file names."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    return data.decode("utf-8-sig", "surrogateescape")


def lines_of(text: str) -> list[str]:
    """The lines of a text; a form feed or U+2028 inside a caption does not end a line."""
    return LINE_ENDS.split(text)


def _records(values: Sequence[Any], name: str) -> Table | None:
    """A list of objects."""
    if not values or not all(isinstance(value, dict) for value in values):
        return None
    columns = tuple(dict.fromkeys(key for value in values for key in value))
    return Table(name, columns, [tuple(value.get(key) for key in columns) for value in values])


def _json(value: Any, name: str, is_image: Callable[[str], bool]) -> Table | None:
    """StyleGAN's {"labels": [[NAME, LABEL], …]}, a list of objects, {"images": [object, …]}, or {NAME: VALUE}."""
    if isinstance(value, list):
        return _records(value, name)
    if not isinstance(value, dict):
        return None
    labels = value.get("labels")
    if isinstance(labels, list) and all(isinstance(row, list) and len(row) == 2 for row in labels):
        return Table(name, ("file_name", "label"), [tuple(row) for row in labels])
    images = value.get("images")
    if isinstance(images, list) and "annotations" not in value:  # Karpathy's dataset_*.json; COCO's has boxes
        return _records(images, name)
    if value and all(is_image(key) for key in list(value)[:SNIFFED]):
        return Table(name, ("0", "1"), list(value.items()), header=False)
    return None


def _parquet(data: bytes, name: str) -> Table:
    try:
        import pyarrow as arrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingPackageError(f"{name}: {NO_PARQUET}") from error
    try:
        table = arrow.parquet.read_table(arrow.BufferReader(data))
    except (arrow.ArrowException, OSError) as error:
        raise UserError(f"{name} is not a Parquet file: {' '.join(str(error).split())[:200]}") from error
    check_schema(table.schema, name)
    columns = tuple(str(column) for column in table.column_names)
    return Table(name, columns, list(zip(*(column.to_pylist() for column in table.columns), strict=True)))


def check_schema(schema: Any, name: str) -> None:
    """UserError if a Parquet file holds the images themselves."""
    import pyarrow as arrow

    for field in schema:
        if arrow.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0:
            raise UserError(
                f"{name} holds the images themselves (column {field.name}): write them to files first, {TO_FILES}"
            )


def _delimited(text: str, name: str, is_image: Callable[[str], bool]) -> Table | None:
    lines = lines_of(text)
    if len(lines) > 1 and lines[0].strip().isdigit() and not lines[1].strip().isdigit():
        lines = lines[1:]  # CelebA's text files begin with their number of rows
    lines, comment = _without_comments(lines, is_image)
    cells, by_space = _cut(lines, PurePosixPath(name).suffix.lower(), is_image)
    rows = [row for row in cells if any(row)]
    rows = _with_header(comment, rows, PurePosixPath(name).suffix.lower(), is_image)
    if not rows:
        return None
    first, second = rows[0], rows[min(1, len(rows) - 1)]
    header = not any(map(is_image, first)) and (
        any(map(is_image, second)) or (not any(map(_is_number, first)) and any(map(_is_number, second)))
    )
    if header and by_space and len(second) == len(first) + 1:
        first = ["image", *first]  # CelebA's header omits the name column
    width = len(first)
    columns = tuple(cell.strip() for cell in first) if header else tuple(map(str, range(width)))
    body = rows[1:] if header else rows
    return Table(name, columns, [_fitted(row, width) for row in body], header)


def _without_comments(lines: list[str], is_image: Callable[[str], bool]) -> tuple[list[str], str]:
    """The lines without leading comments (`# made by hand`), and the last comment, which may be the header."""
    first = next((number for number, line in enumerate(lines) if not line.startswith("#")), 0)
    first = 0 if is_image(lines[0].strip()) else first
    return lines[first:], lines[first - 1].lstrip("# ") if first else ""


def _with_header(
    comment: str, rows: list[list[str]], suffix: str, is_image: Callable[[str], bool]
) -> list[list[str]]:
    """The rows, with a leading comment as header if it has as many cells: `#Image CLASS-ID SPECIES`."""
    if not comment or not rows or not any(map(is_image, rows[0])):
        return rows
    cut = next(iter(_cut([comment, ""], suffix, is_image)[0]))
    header = next((cells for cells in (cut, comment.split()) if len(cells) == len(rows[0]) > 1), None)
    return rows if header is None else [header, *rows]


def _fitted(row: Sequence[str], width: int) -> tuple[str | None, ...]:
    """A row fitted to the header's width: extra cells come from unquoted commas in a caption, the last column."""
    if len(row) > width:
        row = [*row[: width - 1], ", ".join(cell.strip() for cell in row[width - 1 :])]
    cells = [cell.strip() for cell in row]
    return (*cells, *[None] * (width - len(cells)))


def _cut(lines: list[str], suffix: str, is_image: Callable[[str], bool]) -> tuple[Iterable[list[str]], bool]:
    """Lines → cells, by the first delimiter that splits the first lines evenly, else by white space (True), else uncut."""
    sample = [line for line in lines if line.strip()][:SNIFFED]
    # no name contains a tab, but `a caption TAB https://…/0.png` ends like a picture's name
    if any(is_image(line.strip()) and "\t" not in line.strip() for line in sample):
        return ([line] for line in lines), False
    for delimiter in DELIMITERS.get(suffix, ","):
        widths = [len(row) for row in _reader(sample, delimiter)]
        if widths and widths[0] > 1 and sum(width >= widths[0] for width in widths) >= 0.8 * len(widths):
            return _reader(lines, delimiter), False
    split = [line.split() for line in sample]
    if suffix in (".txt", ".lst") and any(len(row) > 1 and is_image(row[0]) for row in split):
        even = len({len(row) for row in split[1:]}) == 1
        return ((line.split() if even else line.split(None, 1)) for line in lines), True
    return ([line] for line in lines), False


def _reader(lines: Iterable[str], delimiter: str) -> Iterable[list[str]]:
    csv.field_size_limit(MOST_TABLE_BYTES)  # 128 KiB else, which an embedding beside the labels has
    try:
        yield from csv.reader(io.StringIO("\n".join(lines)), delimiter=delimiter, skipinitialspace=True)
    except csv.Error as error:
        raise UserError(f"a table is damaged: {error}") from error


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
