"""The files of a source by name, pictures and others: of a folder, a listing, a list of paths, or a zip."""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from shards.layouts.formats import PassedOver, add, why_no_picture
from shards.layouts.listed import Location
from shards.layouts.names import is_hidden
from workspace.errors import UserError

ROOT = "# root: "
HIDDEN_FILE = "hidden file"
UNREAD_ARCHIVES = (".zst", ".7z", ".rar", ".lz4", ".cab", ".arj")


@dataclass(frozen=True)
class Files:
    """What a source holds; nothing but listings is opened.

    Attributes:
        root: the folder, or the archive.
        names: of pictures, relative to the root, sorted.
        others: names of the other files → why they are not pictures; some may be read for labels or captions.
        hidden: why files that nothing reads are passed over → how many.
        members: name → where its bytes are, in an archive; else None.
        listing: the name among `others` of the list that names the pictures, where the source is one.
        aliases: what that list calls a picture → its name.
        empty: folders with nothing in them.
    """

    root: Path
    names: list[str]
    others: Mapping[str, str] = field(default_factory=dict)
    hidden: PassedOver = field(default_factory=dict)
    members: Mapping[str, Location] | None = None
    listing: str | None = None
    aliases: Mapping[str, str] = field(default_factory=dict)
    empty: tuple[str, ...] = ()

    def locate(self, name: str) -> Location:
        """Where the bytes of a file are."""
        if self.members is None:
            return Location(f"{self.root}/{name}")
        return self.members.get(name, Location(f"{self.root}/{name}"))

    def shown(self, name: str) -> str:
        """A file's path as errors show it."""
        return f"{self.root}/{name}"

    def size(self, name: str) -> int:
        """Bytes of a file, packed ones where it is packed; 0 where it is not there."""
        place = self.locate(name)
        if place.length >= 0:
            return place.length
        path = Path(place.path)
        return path.stat().st_size if path.is_file() else 0

    def passed_over(self, read: Iterable[str] = ()) -> PassedOver:
        """Why files were passed over → how many, less those that were read."""
        found, used = dict(self.hidden), frozenset(read)
        for name, why in self.others.items():
            if name not in used:
                add(found, why)
        return found


def walk(root: Path) -> Files:
    """The files below a folder; a link to a folder that contains it is not followed.

    Raises:
        UserError: a folder that cannot be listed: its images would be missing without a word.
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
    except OSError:  # a link to itself: a file that cannot be read
        return False


def _add_hidden_folder(hidden: PassedOver, entry: os.DirEntry[str]) -> None:
    count = sum(len(files) for _, _, files in os.walk(entry.path))
    if count:
        add(hidden, hidden_folder(entry.name), count)


def hidden_folder(name: str) -> str:
    """Why the files in a hidden or a system's folder are passed over."""
    return f"in the system folder {name}"


def _place(folder: str) -> tuple[int, int]:
    found = os.stat(folder)
    return found.st_dev, found.st_ino


def sorted_by_kind(root: Path, names: Iterable[str], members: Mapping[str, Location] | None = None) -> Files:
    """Files that are known by name alone, as `walk` sorts them."""
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


def files_of(source: str) -> Files:
    """The files of a folder, a listing by `shards.list`, a text list or table of paths, or a zip.

    Raises:
        UserError: nothing is named or there, or it is an archive that is read in another way.
    """
    if not source.strip():
        raise UserError(
            "shard.source is empty: name a folder of images, a list of their paths, a zip, or a glob of tars"
        )
    path = Path(source)
    if path.is_dir():
        return walk(path)
    if not path.is_file():
        raise UserError(
            f"shard.source {source} does not exist; expected a folder of images, a zip, a list of paths, "
            "or a listing by `python -m shards.list`"
        )
    with path.open("rb") as file:
        head = file.read(300)
    if head.startswith(ROOT.encode()):
        return _listing(path)
    return _other_file(path, head)


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
        raise UserError(f"shard.source {path} is an archive that is not read: unpack it, and name the folder")
    return files_of_list(path)


def _listing(path: Path) -> Files:
    text = path.read_text(encoding="utf-8", errors="surrogateescape")
    header, *rows = text.removesuffix("\n").split("\n")
    listed = sorted(row.split("\t")[0] for row in rows)
    for name in listed:
        check_inside(name, str(path))
    return Files(Path(header.removeprefix(ROOT)), listed)


def check_inside(name: str, source: str) -> None:
    """UserError where a name that a source lists leads out of it."""
    if PurePosixPath(name).is_absolute() or ".." in name.split("/") or "\0" in name:
        raise UserError(f"shard.source {source} lists {name[:200]!r}, which is outside it: refused")


def below(names: Iterable[str], prefix: str) -> Iterator[str]:
    """Names that start with a folder's path, `a/b/`."""
    return (name for name in names if name.startswith(prefix))
