"""The images below a folder or in a listing file, by name: nothing is opened but the listing."""

import os
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from shards.layouts.formats import PassedOver, add, why_no_picture
from workspace.errors import UserError

ROOT = "# root: "
SPLIT_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "val"}


@dataclass(frozen=True)
class Files:
    """The pictures of a folder or listing.

    Attributes:
        root: the folder.
        names: relative to it, sorted.
        passed_over: why other files were → how many.
    """

    root: Path
    names: list[str]
    passed_over: PassedOver = field(default_factory=dict)


def walk(root: Path) -> Files:
    """The pictures below a folder; a link to a folder that it lies in is not followed.

    Raises:
        UserError: a folder that cannot be listed: its images would be missing without a word.
    """
    names: list[str] = []
    passed_over: PassedOver = {}
    for folder, inner, files in os.walk(root, followlinks=True, onerror=_unlisted):
        above = {_place(parent) for parent in (Path(folder), *Path(folder).absolute().parents)}
        inner[:] = [name for name in inner if _place(Path(folder, name)) not in above]
        for name in files:
            why = why_no_picture(folder, name)
            if why is None:
                names.append(os.path.relpath(os.path.join(folder, name), root))
            else:
                add(passed_over, why)
    return Files(root, sorted(names), passed_over)


def _unlisted(error: OSError) -> None:
    raise UserError(f"{error.filename!r} cannot be listed ({error.strerror}): its images would be left out")


def _place(folder: Path) -> tuple[int, int]:
    found = folder.stat()
    return found.st_dev, found.st_ino


def files_of(source: str) -> Files:
    """The images of a folder, or of a listing file."""
    path = Path(source)
    if path.is_dir():
        return walk(path)
    if not path.is_file():
        raise UserError(
            f"shard.source {source} does not exist; expected a folder of images, or a listing by `python -m shards.list`"
        )
    header, *rows = path.read_text(encoding="utf-8", errors="surrogateescape").removesuffix("\n").split("\n")
    if not header.startswith(ROOT):
        raise UserError(
            f"shard.source {source} is a file and no listing; make one with `python -m shards.list FOLDER --out {source}`"
        )
    listed = sorted(row.split("\t")[0] for row in rows)
    for name in listed:
        check_inside(name, source)
    return Files(Path(header.removeprefix(ROOT)), listed)


def check_inside(name: str, source: str) -> None:
    """UserError where a name that a source lists leads out of it."""
    if PurePosixPath(name).is_absolute() or ".." in name.split("/") or "\0" in name:
        raise UserError(f"shard.source {source} lists {name[:200]!r}, which lies outside of it: refused")
