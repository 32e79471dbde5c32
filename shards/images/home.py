"""Where the tars of image shards are: beside their manifest, or in a home that holds the tars of many sets, a folder or a URL.

    HOME/SET/{train,val}/000000.tar, manifest.json      SET: the first 16 hex digits of the manifest's SHA-256

An artifact with a home has it in the one line of `home.txt`. DVC hashes the folder of the artifact and none of the tars, whose
checksums its manifest has. A tar is compared with it when it is opened (size) and where it is read whole (SHA-256).

A relative home is looked for below each folder above the artifact, then below the working folder: a copy of the repository
inside of it (`dvc exp run --temp`) finds the repository's tars. The name of the set says which tars are meant.

Tars of a home at a URL are fetched into the node's cache when they are read; size and SHA-256 are compared then, once per fetch.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

from shards.images.index import REMAKE
from workspace.errors import UserError
from workspace.exact.homes import HOME, HOMED
from workspace.exact.manifest import NAME, FileEntry, Manifest, read_manifest, sha256_file
from workspace.stores.addresses import is_url, refuse_wrong
from workspace.stores.cache import USUAL, Cache, Wanted

MAKE_AGAIN = "make them again with `dvc repro --force --single-item shard`"
"""DVC does not look at tars in a home, so it runs the stage only if it is made to."""
MOST_LINE = 4096
"""Bytes that `home.txt` may have."""
MOST_HELD = 4
"""Number of fetched tars that stay in the cache after `Home.tar` gave their paths."""


@dataclass(frozen=True)
class Home:
    """The tars of one artifact; goes to another process without the manifest, which is read there.

    Attributes:
        folder: of the artifact.
        at: the home; None if the tars are beside the manifest.
        name: of the set in its home.
        cache: where tars of a URL are kept.
    """

    folder: Path
    at: str | None
    name: str
    cache: Cache = USUAL

    @classmethod
    def of(cls, folder: Path, manifest: Manifest, cache: Cache) -> "Home":
        """The home of an artifact; UserError if its `home.txt` names none."""
        if not (folder / HOME).is_file():
            return cls(folder, None, "")
        found = cls(folder, read_home(folder), set_name(folder), cache)
        found.__dict__["files"] = manifest.files
        return found

    @cached_property
    def files(self) -> Mapping[str, FileEntry]:
        """The files of the manifest."""
        return read_manifest(self.folder, HOMED).files

    @cached_property
    def _held(self) -> deque[BinaryIO]:
        """The tars that were fetched last, open, so that no other process removes them."""
        return deque(maxlen=MOST_HELD)

    def __reduce__(self) -> tuple[type["Home"], tuple[Path, str | None, str, Cache]]:
        """Without the manifest, which has an entry per tar."""
        return Home, (self.folder, self.at, self.name, self.cache)

    @property
    def is_far(self) -> bool:
        """Whether it is at a URL."""
        return self.at is not None and is_url(self.at)

    def wanted(self, name: str) -> Wanted:
        """A tar of a home at a URL, for the cache."""
        entry = self.files.get(name)
        if entry is None:
            raise UserError(f"the manifest of {self.folder} does not have {name}: {MAKE_AGAIN}")
        return Wanted(f"{self.at}/{self.name}/{name}", entry.bytes, entry.sha256)

    def opened(self, name: str) -> BinaryIO:
        """The file of a tar, open; a fetched one stays in the cache until it is closed. UserError as of `tar`."""
        if self.is_far:
            return self.cache.held(self.wanted(name))
        path = self.tar(name)
        try:
            return path.open("rb")
        except FileNotFoundError as error:
            raise UserError(f"{path} does not exist: {self.remake}") from error

    @property
    def remake(self) -> str:
        """What makes a lost or damaged tar again."""
        return REMAKE if self.at is None else MAKE_AGAIN

    def tar(self, name: str) -> Path:
        """The file of a tar that the manifest names, such as train/000000.tar; a fetched one stays for a few more calls.

        Raises:
            UserError: it is not in the home, or has another size than the manifest says.
        """
        if self.at is None:
            return self.folder / name
        if self.is_far:
            self._held.append(self.opened(name))
            return self.cache.path_of(self.wanted(name))
        places = [root / self.name / name for root in roots(self.at, self.folder)]
        path = next((place for place in places if place.is_file()), None)
        if path is None:
            raise UserError(
                f"{name} of {self.folder} is not in its home {self.at} (as {self.name}/{name}): bring the tars back, or "
                f"{MAKE_AGAIN}"
            )
        size, entry = path.stat().st_size, self.files.get(name)
        if entry is None or size != entry.bytes:
            stated = "does not have it" if entry is None else f"says {entry.bytes:,} bytes"
            raise UserError(f"{path} has {size:,} bytes, but its manifest {stated}: {MAKE_AGAIN}")
        return path


def set_name(folder: Path) -> str:
    """What the tars of an artifact are called in any home."""
    return sha256_file(folder / NAME)[:16]


def read_home(folder: Path) -> str:
    """The line of an artifact's `home.txt`; UserError if it is not one line of text."""
    with (folder / HOME).open("rb") as file:
        data = file.read(MOST_LINE)
    try:
        at = data.decode().removesuffix("\n")
    except UnicodeDecodeError:
        at = ""
    if not at.strip() or len(data) == MOST_LINE or any(mark in at for mark in "\n\r\0"):
        raise UserError(f"{folder / HOME} does not name a folder in one line: {MAKE_AGAIN}")
    if is_url(at):
        refuse_wrong(at, str(folder / HOME))
    return at.removeprefix("file://").rstrip("/")


def roots(at: str, folder: Path) -> Iterator[Path]:
    """The folders that a home may be, seen from an artifact."""
    if Path(at).is_absolute():
        yield Path(at)
        return
    yield from (parent / at for parent in folder.absolute().parents)
    yield Path.cwd() / at
