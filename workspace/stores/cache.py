"""Files of a store, kept on this node: bounded, shared by all of its processes, the least recently used leave first.

A file is fetched beside its place and renamed when it is whole and checked, so a half-written one never looks finished. While a
process uses a file it holds a shared lock on it, and no other process removes it; a process that dies lets go of its locks.
"""

import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

from workspace.errors import UserError
from workspace.exact.manifest import sha256_file
from workspace.stores.opening import StoreError, fetch

FOLDER = Path(".runs/cache")
MOST_BYTES = 1 << 35
"""Default bound: 32 GiB."""
PART = ".part"
PAUSE = 0.05
"""Seconds between looks at a file that another process fetches."""
HELD = ".held"
"""Locked by the process that makes room."""


@dataclass(frozen=True)
class Wanted:
    """A file to fetch.

    Attributes:
        url: where it is.
        size: in bytes.
        sha256: of its bytes, in hex; "" where that is not known.
        stamp: the store's sign of its version.
    """

    url: str
    size: int
    sha256: str = ""
    stamp: str = ""

    @property
    def name(self) -> str:
        """In the cache: by its bytes where these are known, so that equal files at several URLs are one."""
        if self.sha256:
            return self.sha256
        return hashlib.sha256(f"{self.url}\n{self.size}\n{self.stamp}".encode()).hexdigest()


@dataclass(frozen=True)
class Cache:
    """A folder of fetched files.

    Attributes:
        folder: on a disk of this node.
        most_bytes: what its files have in all, at most, but for those that are in use.
    """

    folder: Path = FOLDER
    most_bytes: int = MOST_BYTES

    def absolute(self) -> "Cache":
        """The same for a process that works in another folder."""
        return Cache(self.folder.absolute(), self.most_bytes)

    def path_of(self, wanted: Wanted) -> Path:
        """Where the file is, if it is here."""
        return self.folder / wanted.name

    def held(self, wanted: Wanted) -> BinaryIO:
        """The file, fetched if it is not here; nobody removes it while it is open.

        Raises:
            StoreError: the store fails, or the file has other bytes than it should.
            UserError: it is larger than the cache.
        """
        while True:
            file = self._here(wanted) or self._fetched(wanted)
            if file is not None:
                return file

    def _here(self, wanted: Wanted) -> BinaryIO | None:
        """The file, if it is here."""
        path = self.path_of(wanted)
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return None
        fcntl.flock(file, fcntl.LOCK_SH)
        if not _is_at(file, path):  # removed meanwhile
            file.close()
            return None
        # another user's, in a cache that a group shares: it leaves by the time of its fetch
        with suppress(PermissionError):
            os.utime(path, ns=(time.time_ns(), 0))  # the first is when it was used; the second says nothing
        return file

    def _fetched(self, wanted: Wanted) -> BinaryIO | None:
        """Fetch the file; None where another process did so meanwhile, or took the place."""
        if wanted.size > self.most_bytes:
            raise UserError(
                f"compute.cache_bytes is {self.most_bytes:,}, and {wanted.url} has {wanted.size:,} bytes; expected more, best "
                "what 32 such files have"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        part = self.folder / f"{wanted.name}{PART}"
        with part.open("ab") as file, _given_back(file):
            # Not waited for: once the file has its name, its readers hold a lock of their own on it for as long as they read.
            while not _took(file):
                if not _is_at(file, part):
                    return None
                time.sleep(PAUSE)
            if self.path_of(wanted).exists() or not _is_at(file, part):
                return None
            self._make_room(wanted.size)
            fetch(wanted.url, part, wanted.size)
            found = sha256_file(part) if wanted.sha256 else ""
            if found != wanted.sha256:
                part.unlink()
                raise StoreError(
                    f"{wanted.url} holds other bytes than were written: SHA-256 {found}, expected {wanted.sha256}; put it there "
                    "again: `python -m shards.push FOLDER URL --again`"
                )
            part.rename(self.path_of(wanted))
        return self._here(wanted)

    def _make_room(self, size: int) -> None:
        """Remove the files that were not used for longest, until `size` more bytes fit; those in use stay."""
        with (self.folder / HELD).open("ab") as lock, _given_back(lock):
            fcntl.flock(lock, fcntl.LOCK_EX)
            files = sorted(self._files(), key=lambda found: found[1])
            left = sum(bytes_ for _, _, bytes_ in files) + size - self.most_bytes
            for path, _, bytes_ in files:
                if left > 0 and _removed(path):
                    left -= bytes_

    def _files(self) -> Iterator[tuple[Path, int, int]]:
        """Each file, when it was used, and its bytes."""
        for path in self.folder.iterdir():
            if path.name != HELD:
                with suppress(FileNotFoundError):
                    found = path.stat()
                    yield path, found.st_atime_ns, found.st_size


USUAL = Cache()
"""The cache where no setting says another."""


@contextmanager
def _given_back(file: IO[bytes]) -> Iterator[None]:
    """Unlock a file at the end: a process that was forked meanwhile has it open too, and would keep the lock."""
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def _took(file: IO[bytes]) -> bool:
    """Take the lock of a file for this process alone, if nobody has it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(file: IO[bytes], path: Path) -> bool:
    """Whether an open file still has this path."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _removed(path: Path) -> bool:
    """Remove a file that nobody uses."""
    with suppress(FileNotFoundError), path.open("rb") as file:
        if not _took(file):
            return False
        path.unlink()
    return True
