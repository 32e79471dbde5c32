"""The rows of a list too large for memory, some at a time: text tables, JSON lines, Parquet, and listings of `shards.list`."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from shards.layouts.listed import Location
from shards.layouts.path_list import is_path
from shards.layouts.streams import chunks_of
from shards.layouts.tables import NO_PARQUET, SNIFFED, Table, check_schema, read_table
from shards.layouts.walking import ROOT
from workspace.errors import UserError

IMAGE = "image"
"""The one column of a listing."""
MOST_ROWS = 1 << 16
"""Rows of a Parquet file that are read at a time."""
MOST_LINE = 1 << 26
"""Longest line in bytes."""
UTF_16 = (b"\xff\xfe", b"\xfe\xff")


def tables_of(path: Path) -> Iterator[Table]:
    """The rows of a list in parts, each with the same columns; of JSON lines with those that the part has.

    Raises:
        UserError: no table, or damaged.
    """
    if path.suffix.lower() == ".parquet":
        yield from _parquet(path)
        return
    blocks = _blocks(path)
    first = next(blocks, b"")
    if first.startswith(ROOT.encode()):
        yield _listing(first.partition(b"\n")[2])
        yield from map(_listing, blocks)
        return
    yield _table(first, path)
    lead = _lead(first)
    known = len(_table(lead, path).rows)
    for block in blocks:
        table = _table(lead + block, path)
        yield Table(table.name, table.columns, table.rows[known:], table.header)


def _table(data: bytes, path: Path) -> Table:
    table = read_table(data, path.name, is_path)
    if table is None:
        raise UserError(f"shard.source {path} is a file and no list of images: it has no rows of values")
    return table


def _listing(block: bytes) -> Table:
    """Lines of `shards.list`: a path, a size and a time."""
    lines = block.decode("utf-8", "surrogateescape").split("\n")
    return Table("", (IMAGE,), [(line.partition("\t")[0],) for line in lines if line])


def _lead(block: bytes) -> bytes:
    """The first lines, which decide how a text is split into columns; put before each other part, they decide it there too."""
    end = 0
    for _ in range(SNIFFED + 2):
        end = block.find(b"\n", end) + 1 or len(block)
    while block.count(b'"', 0, end) % 2 and end < len(block):
        end = block.find(b"\n", end) + 1 or len(block)
    return block[:end] if block[:end].endswith(b"\n") else block[:end] + b"\n"


def _blocks(path: Path) -> Iterator[bytes]:
    """The bytes in parts that end with a line, and not inside quotes."""
    left = b""
    for chunk in chunks_of(Location(str(path))):
        left += chunk
        if left.startswith(UTF_16):
            raise UserError(
                f"shard.source {path} is UTF-16, which is not read at this size: save it as UTF-8"
            )
        end = left.rfind(b"\n") + 1
        while end and left.count(b'"', 0, end) % 2:
            end = left.rfind(b"\n", 0, end - 1) + 1
        end = end or left.rfind(b"\n") + 1 if len(left) > 2 * len(chunk) else end
        if not end and len(left) > MOST_LINE:
            raise UserError(
                f"shard.source {path} has a line of more than {MOST_LINE:,} bytes: no list of images"
            )
        if end:
            yield left[:end]
            left = left[end:]
    if left:
        yield left


def _parquet(path: Path) -> Iterator[Table]:
    try:
        import pyarrow as arrow
        import pyarrow.parquet
    except ImportError as error:
        raise UserError(f"{path.name}: {NO_PARQUET}") from error
    try:
        with arrow.parquet.ParquetFile(path) as file:
            check_schema(file.schema_arrow, path.name)
            columns = tuple(map(str, file.schema_arrow.names))
            for batch in file.iter_batches(MOST_ROWS):
                values = (column.to_pylist() for column in batch.columns)
                yield Table(PurePosixPath(path).name, columns, list(zip(*values, strict=True)))
    except (arrow.ArrowException, OSError) as error:
        raise UserError(f"{path.name} is not a Parquet file: {' '.join(str(error).split())[:200]}") from error
