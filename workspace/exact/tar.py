"""WebDataset tars: written by webdataset to equal bytes for equal members, read by it in order, checked.

webdataset imports torch, which takes a second, so it is imported where it is used: `--help` and what only looks stay quick.
"""

import os
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from workspace.errors import UserError

END = 2 * tarfile.BLOCKSIZE
"""Zero bytes that end a tar; `tarfile` itself takes a torn header after the first member for the end."""
SAME = {"user": "", "group": "", "mode": 0o644, "mtime": 0, "encoder": False}
"""What webdataset's writer is given so that a header holds no time, owner or umask."""
BUFFER = 1 << 17
"""Bytes that go to and come from the disk at once: `tarfile` takes 10 KB at a time, each a call of the system otherwise."""
BROKEN = (tarfile.TarError, OSError, EOFError, OverflowError)
"""What `tarfile` raises at bytes that are not a tar."""


@dataclass(frozen=True)
class Member:
    """One file of a tar: its name, and where its bytes are in the tar."""

    name: str
    offset: int
    length: int


START = "fork" if sys.platform == "linux" else "spawn"
"""How processes that write start: a fork is at work at once, a new interpreter after a second."""


def load_writer() -> None:
    """Import what writes, before processes are forked: once for all of them."""
    import webdataset  # noqa: F401


class TarWriter:
    """webdataset's TarWriter, but members come in the order given and their places are known; a context manager."""

    def __init__(self, path: Path) -> None:
        import webdataset

        self._file = path.open("wb", buffering=BUFFER)
        self._tar = webdataset.TarWriter(self._file, **SAME)

    def __enter__(self) -> Self:
        """Start writing."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the archive: two zero blocks, and more of them to a whole record."""
        with self._file:
            self._tar.close()

    def add(self, name: str, data: bytes) -> Member:
        """Append a file; returns where its bytes lie.

        Raises:
            ValueError: webdataset would leave it out (no extension, or one that begins with `_`), or add a header to it.
        """
        folder, slash, last = name.rpartition("/")
        stem, _, extension = last.partition(".")
        named = stem and extension and not extension.startswith("_")
        if not named or not name.isascii() or len(name) > tarfile.LENGTH_NAME:
            raise ValueError(f"{name} is not KEY.EXTENSION in at most {tarfile.LENGTH_NAME} ASCII letters")
        # One member a call: of several, webdataset sorts the extensions.
        self._tar.write({"__key__": f"{folder}{slash}{stem}", extension: data})
        padded = len(data) + -len(data) % tarfile.BLOCKSIZE
        return Member(name, self._tar.tarstream.offset - padded, len(data))


def leaves(name: str) -> bool:
    """Whether a member's path leaves the folder that it is unpacked to."""
    return name.startswith(("/", "\\")) or ".." in name.split("/") or "\0" in name


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
                f"{path}: the member {info.name!r} is not a plain file (a link, a device, sparse): refused"
            )
        if leaves(info.name):
            raise UserError(f"{path}: the member {info.name!r} has a path that leaves its folder: refused")
        yield info


def read_samples(path: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Every sample of a tar, in order: its key, and the bytes of its members by extension.

    Raises:
        UserError: as `iterate_tar`; or a member is there twice.
    """
    from webdataset.tariterators import group_by_keys

    with _reading(path) as reading:
        for sample in group_by_keys(reading.members(), handler=reading.refuse):
            reading.require_right()
            yield sample["__key__"], {name: data for name, data in sample.items() if name[0] != "_"}
        reading.require_right()


def iterate_tar(path: Path) -> Iterator[tuple[str, bytes]]:
    """Every member's name and bytes, in order.

    Raises:
        UserError: the file is missing, truncated or not a tar; the path and the last whole member are named. Or a member
            is a link, a device, sparse, or has a path that leaves its folder.
    """
    with _reading(path) as reading:
        for member in reading.members():
            yield member["fname"], member["data"]


class _Reading:
    """A tar that webdataset reads, beside its bare headers: it passes over in silence what must be refused.

    Its handlers end the reading, since what webdataset raises on has its arguments rewritten; then the text is raised here.
    """

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path, self.headers = path, _headers(file)
        self.last, self.wrong = "none", ""

    def members(self) -> Iterator[dict[str, Any]]:
        """webdataset's dict of each member: `fname`, `data`."""
        from webdataset.tariterators import tar_file_expander

        with self.path.open("rb", buffering=BUFFER) as stream:
            source = [{"url": str(self.path), "stream": stream}]
            for member in tar_file_expander(source, self.refuse, self.is_next, eof_value=None):
                self.require_right()
                self.last = member["fname"]
                yield member
        self.require_right()
        self.is_next("")

    def is_next(self, name: str) -> bool:
        """Before a member is read, "" after the last: it is a plain file, and the next one after the last.

        Raises:
            UserError: it is not; webdataset gives that to `refuse`, which ends the reading.
        """
        found, kind = next(self.headers)
        damaged = f"{self.path} is truncated or damaged after {self.last}"
        if kind not in PLAIN:
            self.wrong = (
                f"{self.path}: the member {found!r} is not a plain file (a link, a device, sparse): refused"
            )
        elif kind == TORN and self.last == "none":
            self.wrong = f"{self.path} is missing or damaged ({found}); the last whole member is none"
        elif found != name or kind == TORN:
            self.wrong = damaged
        elif leaves(name):
            self.wrong = f"{self.path}: the member {name!r} has a path that leaves its folder: refused"
        self.require_right()
        return True

    def refuse(self, error: Exception) -> bool:
        """What webdataset does at an error: it stops."""
        if isinstance(error, MemoryError):
            raise error
        text = str(error.args[0]).partition(" @ ")[0] if error.args else type(error).__name__
        self.wrong = (
            self.wrong or f"{self.path} is missing or damaged ({text}); the last whole member is {self.last}"
        )
        return False

    def require_right(self) -> None:
        """UserError where something is wrong."""
        if self.wrong:
            raise UserError(self.wrong)


END_OF_TAR, TORN = b"end", b"torn"
PLAIN = (tarfile.REGTYPE, tarfile.AREGTYPE, END_OF_TAR, TORN)


def _headers(file: BinaryIO) -> Iterator[tuple[str, bytes]]:
    """Name and type of each member of a ustar file but folders, then without end `("", END_OF_TAR)`, or why not, TORN.

    A tenth of what `tarfile` takes; checksums are webdataset's to check.
    """
    while True:
        block = file.read(tarfile.BLOCKSIZE)
        try:
            size = int(block[124:136].rstrip(b" \0"), 8)
        except ValueError:
            break
        if size < 0:
            break
        parts = (block[start:end].partition(b"\0")[0] for start, end in ((345, 500), (0, 100)))
        name = b"/".join(part for part in parts if part).decode(errors="surrogateescape")
        if (kind := block[156:157]) != tarfile.DIRTYPE:
            yield name, kind
        file.seek(size + -size % tarfile.BLOCKSIZE, os.SEEK_CUR)
    ends = block + file.read(tarfile.BLOCKSIZE) == bytes(END)
    torn = "bad header" if len(block) == tarfile.BLOCKSIZE else "truncated header"
    while True:
        yield ("", END_OF_TAR) if ends else (torn, TORN)


@contextmanager
def _reading(path: Path) -> Iterator[_Reading]:
    try:
        with path.open("rb") as file:
            yield _Reading(path, file)
    except OSError as error:
        raise UserError(f"{path} is missing or damaged ({error})") from error


def check_end(tar: tarfile.TarFile, path: Path, where: str) -> None:
    """Check that a tar that was read to its end has one: `tarfile` takes a torn header for it.

    Raises:
        UserError: it ends otherwise.
    """
    assert tar.fileobj is not None
    tar.fileobj.seek(tar.offset)
    if tar.fileobj.read(END) != bytes(END):
        raise UserError(f"{path} is truncated or damaged {where}")
