"""A source that is a text list of paths, or a table of them."""

import os
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from shards.layouts.formats import PICTURES
from shards.layouts.listed import Location
from shards.layouts.tables import SUFFIXES, Table, read_table
from shards.layouts.walking import Files
from workspace.errors import UserError

LOOKED_AT = 200
"""Number of values by which a column of paths is recognised."""
TRIED = 20
"""Number of paths tried to find the folder that they are relative to."""


def files_of_list(path: Path) -> Files:
    """The images that a text file or table names, relative to its folder or the working directory, or by absolute paths.

    The list itself is in `others`, because kind metadata reads labels and captions from its other columns.

    Raises:
        UserError: not a list, or none of its first paths exists.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(
            f"shard.source {path} is a file and no list of images; expected a folder, a zip, a list of paths "
            f"({', '.join(SUFFIXES)}), or a listing by `python -m shards.list FOLDER --out LISTING`"
        )
    table = read_table(Location(str(path)).read(), path.name, is_path)
    listed = [] if table is None else paths_of(table)
    if not listed:
        raise UserError(
            f"shard.source {path} is a file and no list of images: no column of it holds paths of pictures; make one with "
            f"`python -m shards.list FOLDER --out {path.stem}.listing`"
        )
    base = base_of(path, listed)
    whole = {name: os.path.normpath(base / name) for name in listed}
    root = path.parent.absolute()
    if not all(place.startswith(f"{root}{os.sep}") for place in whole.values()):
        root = Path(os.path.commonpath([str(Path(place).parent) for place in whole.values()]))
    aliases = {name: os.path.relpath(place, root) for name, place in whole.items()}
    members = {path.name: Location(str(path))}
    return Files(
        root,
        sorted(set(aliases.values())),
        {path.name: "the list"},
        members=members,
        listing=path.name,
        aliases=aliases,
    )


def is_path(text: str) -> bool:
    """Whether a text ends like a picture's name."""
    return Path(text.partition("#")[0]).suffix.lower() in PICTURES


def paths_of(table: Table) -> list[str]:
    """The column with the most paths of pictures, each path once."""
    number = paths_column(table)
    cells = [] if number is None else [row[number] for row in table.rows if row[number] is not None]
    return list(dict.fromkeys(filter(is_path, (plain(str(cell)) for cell in cells))))


def paths_column(table: Table) -> int | None:
    """The column with the most paths of pictures among its first values; None for a table without columns."""

    def paths(number: int) -> int:
        cells = (row[number] for row in table.rows if row[number] is not None)
        return sum(is_path(plain(str(cell))) for cell in islice(cells, LOOKED_AT))

    return max(range(len(table.columns)), key=paths, default=None)


def plain(text: str) -> str:
    """A path without Flickr's caption number, with slashes in place of Windows' backslashes."""
    return text.strip().partition("#")[0].replace("\\", "/")


def base_of(path: Path, listed: Sequence[str]) -> Path:
    """The folder that a list's paths are relative to; UserError if neither its own nor the working directory has one."""
    for base in (path.parent.absolute(), Path.cwd()):
        if any((base / name).is_file() for name in listed[:TRIED]):
            return base
    raise UserError(
        f"shard.source {path} lists {listed[0]!r}, and neither {path.parent.absolute()} nor {Path.cwd()} has it: paths are "
        "relative to the list's folder or the working directory, or absolute"
    )
