"""Deterministic tar files: the same members give the same bytes (ustar, mtime 0, uid 0, fixed mode)."""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from workspace.errors import UserError

END = 2 * tarfile.BLOCKSIZE
"""Zero bytes that end a tar; `tarfile` itself takes a torn header after the first member for the end."""


@dataclass(frozen=True)
class Member:
    """One file of a tar: its name, and where its bytes are in the tar."""

    name: str
    offset: int
    length: int


class TarWriter:
    """Writes members in the order given; a context manager. The bytes are those of `tarfile`, which copies them twice."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._offset = 0

    def __enter__(self) -> Self:
        """Start writing."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the archive: two zero blocks, and more of them to a whole record."""
        with self._file:
            self._file.write(bytes(END + -(self._offset + END) % tarfile.RECORDSIZE))

    def add(self, name: str, data: bytes) -> Member:
        """Append a file; returns where its bytes lie."""
        info = tarfile.TarInfo(name)
        info.size, info.mode, info.mtime = len(data), 0o644, 0
        padding = bytes(-len(data) % tarfile.BLOCKSIZE)
        self._file.writelines((info.tobuf(tarfile.USTAR_FORMAT), data, padding))
        begin = self._offset + tarfile.BLOCKSIZE
        self._offset = begin + len(data) + len(padding)
        return Member(name, begin, len(data))


def plain_members(tar: tarfile.TarFile, path: Path) -> Iterator[tarfile.TarInfo]:
    """The files of an open tar, in order; folders are passed over.

    Raises:
        UserError: a member that is a link, a device or sparse, or whose name leaves the folder that it is unpacked to.
    """
    for info in tar:
        if info.isdir():
            continue
        if not info.isreg() or info.issparse():
            raise UserError(
                f"{path}: the member {info.name!r} is no plain file (a link, a device, sparse): refused"
            )
        if info.name.startswith(("/", "\\")) or ".." in info.name.split("/") or "\0" in info.name:
            raise UserError(f"{path}: the member {info.name!r} has a path that leaves its folder: refused")
        yield info


def iterate_tar(path: Path) -> Iterator[tuple[str, bytes]]:
    """Every member's name and bytes, in order.

    Raises:
        UserError: the file is missing, truncated or not a tar; the path and the last whole member are named. Or a member
            is a link, a device, sparse, or has a path that leaves its folder.
    """
    last = "none"
    try:
        with tarfile.open(path, "r:", format=tarfile.USTAR_FORMAT) as tar:
            for info in plain_members(tar, path):
                file = tar.extractfile(info)
                assert file is not None, "plain files have bytes"
                data = file.read()
                if len(data) != info.size:
                    raise UserError(f"{path} is truncated in {info.name}")
                yield info.name, data
                last = info.name
            check_end(tar, path, f"after {last}")
    except BROKEN as error:
        raise UserError(f"{path} is missing or damaged ({error}); the last whole member is {last}") from error


BROKEN = (tarfile.TarError, OSError, EOFError, OverflowError)
"""What `tarfile` raises at bytes that are no tar."""


def check_end(tar: tarfile.TarFile, path: Path, where: str) -> None:
    """Check that a tar that was read to its end has one: `tarfile` takes a torn header for it.

    Raises:
        UserError: it ends otherwise.
    """
    assert tar.fileobj is not None
    tar.fileobj.seek(tar.offset)
    if tar.fileobj.read(END) != bytes(END):
        raise UserError(f"{path} is truncated or damaged {where}")
