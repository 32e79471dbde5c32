"""How to read a source if its names alone do not decide it: the user's roles, tables and columns; and its split folders."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from shards.layouts.names import counted, split_of, splits_of
from workspace.errors import UserError

Role = Literal["train", "val", "test", "class", "skip"]
ColumnUse = Literal["image", "label", "caption", "split", "mask"]
SPLIT_ROLES = ("train", "val", "test")
SKIPPED_BY_ROLE = "left out by shard.roles"
FOLDER = "folder"
"""`shard.columns: {label: folder}`: the class is the folder of an image, or of a key in a tar."""
KEPT_APART = "of the test split, kept apart"


@dataclass(frozen=True)
class Reading:
    """The user's settings for a source.

    Attributes:
        roles: path of a folder or file, a folder's name, or a value of a split column → its role.
        tables: files with labels, captions or splits, relative to the source; `*.txt` for one text per image; None takes
            all that are found.
        columns: use → column name.
        tars: a glob that selects from a folder of tars; None takes all.
    """

    roles: Mapping[str, Role] = field(default_factory=dict)
    tables: tuple[str, ...] | None = None
    columns: Mapping[ColumnUse, str] = field(default_factory=dict)
    tars: str | None = None

    def role_of(self, path: str) -> str | None:
        """The role that the user gave a folder, by its path or its name."""
        return self.roles.get(path) or self.roles.get(path.rpartition("/")[2])


@dataclass(frozen=True)
class Part:
    """Images of one split, below one folder.

    Attributes:
        prefix: the folder, "" or "a/b/".
        split: train, val, test, or None if the source has no splits.
        names: its images.
        cls: the class, if the split folders are inside class folders.
    """

    prefix: str
    split: str | None
    names: Sequence[str]
    cls: str | None = None


@dataclass(frozen=True)
class Level:
    """A folder's direct content: folders with the names below each, and loose files."""

    folders: Mapping[str, list[str]]
    loose: list[str]


def level(names: Iterable[str], prefix: str) -> Level:
    """The names below `prefix`, grouped by the next folder of their path."""
    folders: dict[str, list[str]] = {}
    loose = []
    for name in names:
        top, slash, _ = name[len(prefix) :].partition("/")
        if slash:
            folders.setdefault(top, []).append(name)
        else:
            loose.append(name)
    return Level(folders, loose)


def descended(names: Sequence[str], reading: Reading, prefix: str = "", split: str | None = None) -> str:
    """The folder at which a source or split begins: wrappers that hold everything, and only folders, are entered."""
    while True:
        here = level(names, prefix)
        if here.loose or len(here.folders) != 1:
            return prefix
        (child,) = here.folders
        named = split_of(child)
        if reading.role_of(prefix + child) or (named and named != split):
            return prefix
        if level(names, f"{prefix}{child}/").loose:
            return prefix
        prefix = f"{prefix}{child}/"


def without_skipped(names: Sequence[str], reading: Reading) -> list[str]:
    """Names without those that a role `skip` removes: a file, or any folder on the path."""
    out = {path for path, role in reading.roles.items() if role == "skip"}
    if not out:
        return list(names)
    return [name for name in names if not out & _places(name)]


def _places(name: str) -> set[str]:
    """Every folder of a path, by path and by name, and the file itself."""
    parts = name.split("/")
    return {"/".join(parts[: end + 1]) for end in range(len(parts))} | set(parts)


def divided(names: Sequence[str], reading: Reading, source: str, classes: bool) -> list[Part]:
    """The splits of a source by folder name; one part without a split if it has none.

    Args:
        names: the images, without those that have the role `skip`.
        reading: the user's roles.
        source: for errors.
        classes: whether folders are classes, so that a folder named like a split would become one.

    Raises:
        UserError: folders named like splits beside other folders, whose roles are not guessed; or no training folder.
    """
    prefix = descended(names, reading)
    here = level(names, prefix)
    named = splits_of(here.folders)
    roles = {child: reading.role_of(prefix + child) or named[child] for child in here.folders}
    splits = {child: role for child, role in roles.items() if role in SPLIT_ROLES}
    if not splits:
        return _split_below_classes(here, prefix, reading, source, classes) or [Part(prefix, None, names)]
    if len(splits) < len(roles) or here.loose:
        plain = [f"{child}/" for child in roles if child not in splits] + [
            name[len(prefix) :] for name in here.loose
        ]
        raise UserError(_mixed(source, prefix, sorted(splits), plain, classes))
    if "train" not in splits.values():
        first = sorted(splits)[0]
        raise UserError(
            f"shard.source {source} has no images to train on: its folders are {counted(sorted(splits))}; "
            f"say which is for training, shard.roles: {{{prefix}{first}: train}}"
        )
    return [Part(f"{prefix}{child}/", role, here.folders[child]) for child, role in splits.items()]


def _mixed(source: str, prefix: str, splits: Sequence[str], plain: Sequence[str], classes: bool) -> str:
    roles = "train, val, test, class or skip" if classes else "train, val, test or skip"
    return (
        f"shard.source {source}: {counted([f'{name}/' for name in splits])} {'is' if len(splits) == 1 else 'are'} named like "
        f"a split, and beside {'it' if len(splits) == 1 else 'them'} {'is' if len(plain) == 1 else 'are'} "
        f"{counted(sorted(plain))}; say what each is ({roles}), such as shard.roles: "
        f"{{{prefix}{splits[0]}: {'class' if classes else 'train'}}} or {{{prefix}{sorted(plain)[0].rstrip('/')}: skip}}"
    )


def _split_below_classes(
    here: Level, prefix: str, reading: Reading, source: str, classes: bool
) -> list[Part] | None:
    """CLASS/{train,val,test}/…, if every class folder has splits."""
    parts = []
    whole = 0
    for child, names in here.folders.items():
        inner = level(names, f"{prefix}{child}/")
        paths = {name: f"{prefix}{child}/{name}" for name in inner.folders}
        splits = {name: reading.role_of(path) or split_of(name) for name, path in paths.items()}
        splits = {name: role for name, role in splits.items() if role in SPLIT_ROLES}
        whole += bool(splits) and len(splits) == len(inner.folders) and not inner.loose
        parts += [Part(f"{paths[name]}/", role, inner.folders[name], child) for name, role in splits.items()]
    if not parts:
        return None
    if whole < len(here.folders) or here.loose:
        if not classes:
            return None
        first = parts[0].prefix.rstrip("/")
        raise UserError(
            f"shard.source {source}: {first}/ is named like a split inside a class folder, and not every class has splits; "
            f"say what it is, shard.roles: {{{first}: class}} (pictures like the others) or {{{first}: skip}}"
        )
    if all(part.split != "train" for part in parts):
        return None
    return parts


class UnknownRoleError(UserError):
    """A role for something that the source does not have."""


def check_roles(reading: Reading, names: Iterable[str], values: Iterable[str], source: str) -> None:
    """UnknownRoleError if a role names something that the source does not have."""
    if not reading.roles:
        return
    there = set(values)
    for name in names:
        there |= _places(name)
    for path in reading.roles:
        if path not in there:
            raise UnknownRoleError(
                f"shard.roles names {path}, which shard.source {source} does not have: expected the path or name of a folder "
                "or file below it, or a value of a split column"
            )
