"""The files of a source by name, pictures and others: a folder, a listing, a list of paths, or a zip."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from shards.layouts.formats import LINK_TO_NOTHING, PassedOver, add, why_no_picture
from shards.layouts.listed import Location
from shards.layouts.names import is_hidden
from workspace.errors import UserError
from workspace.meant import did_you_mean
from workspace.stores.addresses import PACKAGES, is_url
from workspace.stores.cache import USUAL, Cache

ROOT = "# root: "
HIDDEN_FILE = "hidden file"
COMMAND = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
UNREAD_ARCHIVES = (".zst", ".7z", ".rar", ".lz4", ".cab", ".arj")


@dataclass(frozen=True)
class Files:
    """The content of a source; only listings are opened.

    Attributes:
        root: the folder, or the archive, or its URL.
        names: of pictures, relative to the root, sorted.
        others: name of each other file → why it is not a picture; some may be read for labels or captions.
        hidden: reason for skipping → number of files that nothing reads.
        members: name → location of its bytes, in an archive; else None.
        listing: which of `others` is the list that names the pictures, if the source is one.
        aliases: a picture's name in that list → its name here.
        empty: empty folders.
    """

    root: Path | str
    names: list[str]
    others: Mapping[str, str] = field(default_factory=dict)
    hidden: PassedOver = field(default_factory=dict)
    members: Mapping[str, Location] | None = None
    listing: str | None = None
    aliases: Mapping[str, str] = field(default_factory=dict)
    empty: tuple[str, ...] = ()

    def locate(self, name: str) -> Location:
        """The location of a file's bytes."""
        if self.members is None:
            return Location(f"{self.root}/{name}")
        return self.members.get(name, Location(f"{self.root}/{name}"))

    def shown(self, name: str) -> str:
        """A file's path for error messages."""
        return f"{self.root}/{name}"

    def size(self, name: str) -> int:
        """A file's size in bytes, compressed size in an archive; 0 if it does not exist."""
        place = self.locate(name)
        if place.length >= 0:
            return place.length
        path = Path(place.path)
        return path.stat().st_size if path.is_file() else 0

    def passed_over(self, read: Iterable[str] = ()) -> PassedOver:
        """Reason for skipping → number of files, without those that were read."""
        found, used = dict(self.hidden), frozenset(read)
        for name, why in self.others.items():
            if name not in used:
                add(found, why)
        return found


def walk(root: Path) -> Files:
    """The files below a folder; links to a parent folder are not followed.

    Raises:
        UserError: a folder cannot be listed; without this error its images would be missing silently.
    """
    names: list[str] = []
    others: dict[str, str] = {}
    hidden: PassedOver = {}
    empty: list[str] = []
    above = frozenset(_place(str(parent)) for parent in (root, *root.absolute().parents))
    waiting = [(str(root), "", above)]
    while waiting:
        folder, prefix, above = waiting.pop()
        entries = _entries(folder)
        if not entries:
            empty.append(prefix)
        for entry in entries:
            if _is_folder(entry):
                if is_hidden(entry.name):
                    _add_hidden_folder(hidden, entry)
                elif (place := _place(entry.path)) not in above:
                    waiting.append((entry.path, f"{prefix}{entry.name}/", above | {place}))
            elif is_hidden(entry.name):
                add(hidden, HIDDEN_FILE)
            elif why := why_no_picture(folder, entry.name):
                if why == LINK_TO_NOTHING:
                    add(hidden, why)  # not among those that are read for labels and captions
                else:
                    others[prefix + entry.name] = why
            else:
                names.append(prefix + entry.name)
    return Files(root, sorted(names), dict(sorted(others.items())), hidden, empty=tuple(sorted(empty)))


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return list(found)
    except OSError as error:
        raise UserError(
            f"{error.filename!r} cannot be listed ({error.strerror}): its images would be left out"
        ) from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself counts as an unreadable file
        return False


def _add_hidden_folder(hidden: PassedOver, entry: os.DirEntry[str]) -> None:
    count = sum(len(files) for _, _, files in os.walk(entry.path))
    if count:
        add(hidden, hidden_folder(entry.name), count)


def hidden_folder(name: str) -> str:
    """Why files in a hidden or system folder are skipped."""
    return f"in the system folder {name}"


def _place(folder: str) -> tuple[int, int]:
    found = os.stat(folder)
    return found.st_dev, found.st_ino


def sorted_by_kind(
    root: Path | str, names: Iterable[str], members: Mapping[str, Location] | None = None
) -> Files:
    """Sorts files by name only, as `walk` does."""
    pictures: list[str] = []
    others: dict[str, str] = {}
    hidden: PassedOver = {}
    for name in sorted(names):
        *folders, base = name.split("/")
        system = next((part for part in folders if is_hidden(part)), None)
        if system is not None:
            add(hidden, hidden_folder(system))
        elif is_hidden(base):
            add(hidden, HIDDEN_FILE)
        elif why := why_no_picture(None, base):
            others[name] = why
        else:
            pictures.append(name)
    return Files(root, pictures, others, hidden, members)


def files_of(source: str, cache: Cache = USUAL) -> Files:
    """The files of a folder, a listing from `shards.list`, a text list or table of paths, or a zip, on a path or at a URL.

    Raises:
        UserError: the source is empty or does not exist, or is an archive that must be read in another way.
    """
    if not source.strip():
        raise UserError(
            "shard.source is empty: name a folder of images, a list of their paths, a zip, or a glob of tars"
        )
    from shards.layouts.remote import files_of_remote, remote_of

    if (remote := remote_of(source)) is not None:
        return files_of_remote(remote, cache)
    path = Path(source)
    if path.is_dir():
        return walk(path)
    if not path.is_file():
        refuse_commands(source)
        raise UserError(
            f"shard.source {source} does not exist{did_you_mean(source)}; expected a folder of images, a zip, a list of paths, "
            "or a listing by `python -m shards.list`"
        )
    with path.open("rb") as file:
        head = file.read(300)
    if head.startswith(ROOT.encode()):
        return _listing(path)
    return _other_file(path, head)


def refuse_commands(source: str) -> None:
    """UserError if a source that does not exist looks like a command or a chain: webdataset would run it in a shell."""
    if COMMAND.match(source) and not is_url(source):
        schemes = ", ".join(f"{scheme}://" for scheme in PACKAGES)
        raise UserError(
            f"shard.source {source} is a command or a chain of file systems, of which nothing is run: refused; expected a path, "
            f"or a URL ({schemes})"
        )


def _other_file(path: Path, head: bytes) -> Files:
    from shards.layouts.path_list import files_of_list
    from shards.layouts.zipped import files_of_zip

    if head.startswith((b"PK\3\4", b"PK\5\6")):
        return files_of_zip(path)
    if head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0")) or head[257:262] == b"ustar":
        raise UserError(
            f"shard.source {path} is a tar: WebDataset's samples are read by shard.kind webdataset, "
            f"other tars once unpacked: `mkdir FOLDER && tar -xf {path} -C FOLDER`"
        )
    if path.name.lower().endswith(UNREAD_ARCHIVES):
        raise UserError(
            f"shard.source {path} is an archive of a kind that is not read: unpack it, and name the folder"
        )
    return files_of_list(path)


def _listing(path: Path) -> Files:
    text = path.read_text(encoding="utf-8", errors="surrogateescape")
    header, *rows = text.removesuffix("\n").split("\n")
    listed = sorted(row.split("\t")[0] for row in rows)
    for name in listed:
        check_inside(name, str(path))
    return Files(Path(header.removeprefix(ROOT)), listed)


def check_inside(name: str, source: str) -> None:
    """UserError if a name that a source lists leads outside it."""
    if PurePosixPath(name).is_absolute() or ".." in name.split("/") or "\0" in name:
        raise UserError(f"shard.source {source} lists {name[:200]!r}, which is outside it: refused")


def below(names: Iterable[str], prefix: str) -> Iterator[str]:
    """Names that start with a folder's path, `a/b/`."""
    return (name for name in names if name.startswith(prefix))
