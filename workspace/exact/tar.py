"""WebDataset tars, written and read by the webdataset library: equal members give equal bytes, reading is in order and checked.

webdataset imports torch, which takes a second, so it is imported on first use: `--help` and commands that only look stay quick.
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
"""The zero bytes that end a tar. Checked because `tarfile` takes a truncated header after the first member for the end."""
SAME = {"user": "", "group": "", "mode": 0o644, "mtime": 0, "encoder": False}
"""Arguments of webdataset's writer that keep time, owner and umask out of the headers."""
BUFFER = 1 << 17
"""Buffer size in bytes; `tarfile` alone would make a system call per 10 KB."""
BROKEN = (tarfile.TarError, OSError, EOFError, OverflowError)
"""`tarfile`'s exceptions for bytes that are not a tar."""


@dataclass(frozen=True)
class Member:
    """A file in a tar: its name, and the position of its bytes."""

    name: str
    offset: int
    length: int


START = "fork" if sys.platform == "linux" else "spawn"
"""Start method of writing processes: a fork works at once, a new interpreter after a second."""


def load_writer() -> None:
    """Import the writer before forking, once for all processes."""
    import webdataset  # noqa: F401


class TarWriter:
    """webdataset's TarWriter, with members in the given order and their positions known; a context manager."""

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
        """End the archive with two zero blocks, padded to a whole record."""
        with self._file:
            self._tar.close()

    def add(self, name: str, data: bytes) -> Member:
        """Append a file; returns the position of its bytes.

        Raises:
            ValueError: webdataset would omit it (no extension, or one beginning with `_`), or need an extra header.
        """
        folder, slash, last = name.rpartition("/")
        stem, _, extension = last.partition(".")
        named = stem and extension and not extension.startswith("_")
        if not named or not name.isascii() or len(name) > tarfile.LENGTH_NAME:
            raise ValueError(f"{name} is not KEY.EXTENSION in at most {tarfile.LENGTH_NAME} ASCII letters")
        # one member per call, because webdataset sorts several by extension
        self._tar.write({"__key__": f"{folder}{slash}{stem}", extension: data})
        padded = len(data) + -len(data) % tarfile.BLOCKSIZE
        return Member(name, self._tar.tarstream.offset - padded, len(data))


def leaves(name: str) -> bool:
    """Whether a member's path leads outside the folder that it is unpacked to."""
    return name.startswith(("/", "\\")) or ".." in name.split("/") or "\0" in name


def plain_members(tar: tarfile.TarFile, path: Path | str) -> Iterator[tarfile.TarInfo]:
    """The files of an open tar, in order; folders are skipped.

    Raises:
        UserError: a member is a link, a device or sparse, or its path leads outside the folder.
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
    """Every sample of a tar, in order: its key, and its members' bytes by extension.

    Raises:
        UserError: as in `iterate_tar`, or a member appears twice.
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
        UserError: the file is missing, truncated or not a tar (the error names the path and the last whole member), or a
            member is a link, a device or sparse, or its path leads outside the folder.
    """
    with _reading(path) as reading:
        for member in reading.members():
            yield member["fname"], member["data"]


class _Reading:
    """A tar read by webdataset, compared with its raw headers, because webdataset silently skips members that must be refused.

    The handlers stop the reading and the error is raised here, because webdataset rewrites the arguments of exceptions.
    """

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path, self.headers = path, _headers(file)
        self.last, self.wrong = "none", ""

    def members(self) -> Iterator[dict[str, Any]]:
        """webdataset's dict per member: `fname`, `data`."""
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
        """Check, before webdataset yields a member (or "" after the last), that it is a plain file and the next in order.

        Raises:
            UserError: it is not; webdataset passes this to `refuse`, which stops the reading.
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
        """webdataset's error handler: stop reading."""
        if isinstance(error, MemoryError):
            raise error
        text = str(error.args[0]).partition(" @ ")[0] if error.args else type(error).__name__
        self.wrong = (
            self.wrong or f"{self.path} is missing or damaged ({text}); the last whole member is {self.last}"
        )
        return False

    def require_right(self) -> None:
        """UserError if something was wrong."""
        if self.wrong:
            raise UserError(self.wrong)


END_OF_TAR, TORN = b"end", b"torn"
PLAIN = (tarfile.REGTYPE, tarfile.AREGTYPE, END_OF_TAR, TORN)


def _headers(file: BinaryIO) -> Iterator[tuple[str, bytes]]:
    """Name and type of each member of a ustar file except folders, then forever `("", END_OF_TAR)`, or a reason and TORN.

    Takes a tenth of `tarfile`'s time; webdataset checks the checksums.
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


def check_end(tar: tarfile.TarFile, path: Path | str, where: str) -> None:
    """Check that a tar has a proper end, because `tarfile` takes a truncated header for the end.

    Raises:
        UserError: it does not.
    """
    assert tar.fileobj is not None
    tar.fileobj.seek(tar.offset)
    if tar.fileobj.read(END) != bytes(END):
        raise UserError(f"{path} is truncated or damaged {where}")
