"""A folder per class: CLASS/…/NAME.jpg, {train,val,test}/CLASS/…/NAME.jpg, or CLASS/{train,val,test}/…/NAME.jpg.

A folder named like a split never becomes a class unless `shard.roles` says so. A validation folder without class folders
(as in ImageNet) takes its labels from a table or from the devkit.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from unicodedata import normalize

from shards.layouts.beside import Beside, read_beside
from shards.layouts.flat_labels import find_labels
from shards.layouts.folder import entered, keep_apart
from shards.layouts.formats import PassedOver, add
from shards.layouts.listed import ImageList, Source, SourceImage, shown_name
from shards.layouts.names import PARTS, begins_like_split, counted, ending_like_splits, split_of
from shards.layouts.reading import (
    FOLDER,
    SKIPPED_BY_ROLE,
    Level,
    Part,
    Reading,
    check_roles,
    descended,
    divided,
    level,
    without_skipped,
)
from shards.layouts.split_lists import by_table, disagreeing
from shards.layouts.walking import Files
from workspace.errors import UserError


class LooseImagesError(UserError):
    """Some images are in no class folder."""


@dataclass
class Found:
    """The findings so far.

    Attributes:
        rows: name → (split, class).
        flat: folder → names of its validation images, where it has no class folders.
        captions: name → its captions.
        read: files that were read for labels, captions or splits.
        passed_over: reason for skipping → number of images.
        notes: what to report.
    """

    rows: dict[str, tuple[str | None, str]] = field(default_factory=dict)
    flat: dict[str, list[str]] = field(default_factory=dict)
    captions: Mapping[str, Sequence[str]] = field(default_factory=dict)
    read: list[str] = field(default_factory=list)
    passed_over: PassedOver = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def list_class_folder(files: Files, reading: Reading, source: str) -> Source:
    """Images labelled by their folder; with captions if `shard.tables` names a file of them.

    Raises:
        UserError: an image outside all class folders, a folder whose role is unclear, a validation image without a label.
    """
    found = Found(read=[files.listing] if files.listing else [])
    plain = replace(reading, columns={use: name for use, name in reading.columns.items() if name != FOLDER})
    beside = read_beside(files, files.names, plain, source) if reading.tables else Beside()
    splits = beside.splits or beside.lists.splits
    check_roles(reading, files.names, splits.values(), source)
    names = without_skipped(files.names, reading)
    if len(names) < len(files.names):
        add(found.passed_over, SKIPPED_BY_ROLE, len(files.names) - len(names))
    _take_parts(divided(names, reading, source, classes=True), names, reading, source, found)
    if reading.columns.get("label") == FOLDER:
        found.rows = {name: (split, _inner(name) or cls) for name, (split, cls) in found.rows.items()}
    else:
        found.notes += _nested(found.rows)
    # a Mac and other systems may write the same name in two Unicode forms
    found.rows = {name: (split, normalize("NFC", cls)) for name, (split, cls) in found.rows.items()}
    classes = tuple(sorted({cls for _, cls in found.rows.values()}))
    found.notes += _doubtful(classes, reading, source)
    _take_flat(files, classes, reading, found)
    found.captions = beside.captions
    found.read += beside.read
    found.notes += [*beside.notes, *beside.warnings]
    if splits:
        _take_splits(splits, reading, source, found)
    for why, count in files.passed_over(found.read).items():
        add(found.passed_over, why, count)
    return _source(files, found, classes, source)


def _source(files: Files, found: Found, classes: Sequence[str], source: str) -> Source:
    number = _numbered(classes, source)
    images = [
        SourceImage(name, files.locate(name), split, number[cls], tuple(found.captions.get(name, ())))
        for name, (split, cls) in sorted(found.rows.items())
    ]
    return Source(
        ImageList(images),
        tuple(classes),
        passed_over=found.passed_over,
        read=tuple(dict.fromkeys(found.read)),
        notes=tuple(found.notes),
    )


def _take_parts(parts: list[Part], names: Sequence[str], reading: Reading, source: str, found: Found) -> None:
    """Take training images first, because their classes decide how the other splits' folders are read."""
    found.notes += [*entered(parts, names), *keep_apart(parts, found.passed_over)]
    kept = [part for part in parts if part.split != "test"]
    for part in sorted(kept, key=lambda part: part.split != "train"):
        if part.cls is not None:
            found.rows.update((name, (part.split, part.cls)) for name in part.names)
        else:
            _take(part, reading, source, found)


def _take(part: Part, reading: Reading, source: str, found: Found) -> None:
    """Add a split's images by class folder, or set them aside if it has no class folders."""
    known = {cls for _, cls in found.rows.values()}
    prefix = part.prefix
    if not known & level(part.names, prefix).folders.keys():
        prefix = descended(part.names, reading, prefix, part.split)
    here = level(part.names, prefix)
    if part.split == "val" and _is_flat(here, prefix, known):
        found.flat[part.prefix] = list(part.names)
        return
    _check_level(here, prefix, reading, source)
    found.rows.update((name, (part.split, cls)) for cls, names in here.folders.items() for name in names)


def _is_flat(here: Level, prefix: str, known: set[str]) -> bool:
    """Whether a validation folder has no class folders: only loose images, or all in one folder `images`."""
    if here.loose or len(here.folders) != 1:
        return bool(here.loose) and not here.folders
    ((child, names),) = here.folders.items()
    named = child.lower() in PARTS or split_of(child) is not None
    return named and child not in known and not level(names, f"{prefix}{child}/").folders


def _check_level(here: Level, prefix: str, reading: Reading, source: str) -> None:
    if here.loose:
        beside = f" (the folders beside it: {counted(sorted(here.folders))})" if here.folders else ""
        raise LooseImagesError(
            f"{source}/{here.loose[0]} is in no class folder; expected {prefix}CLASS/NAME.jpg{beside}, "
            "or kind folder for unlabelled images"
        )
    for cls in here.folders:
        path = f"{prefix}{cls}"
        if split_of(cls) and reading.role_of(path) != "class":
            raise UserError(
                f"shard.source {source}: {path}/ is named like a split where classes are expected; say what it is, "
                f"shard.roles: {{{path}: class}} or {{{path}: skip}}"
            )


def _doubtful(classes: Sequence[str], reading: Reading, source: str) -> list[str]:
    """A note about classes with names close to a split's (`trainA`, `testB`); UserError if these are half of all or more."""
    said = {path.rpartition("/")[2] for path, role in reading.roles.items() if role == "class"}
    like = {name for name in classes if begins_like_split(name)} | set(ending_like_splits(classes))
    doubtful = sorted(like - said)
    if not doubtful:
        return []
    if 2 * len(doubtful) >= len(classes):
        roles = ", ".join(f"{name}: class" for name in doubtful[:3])
        raise UserError(
            f"shard.source {source}: the folders {counted(doubtful)} begin or end like splits, but would be classes; say what "
            f"each is, shard.roles: {{{roles}}} (or train, val, test, skip)"
        )
    return [
        f"{counted(doubtful)} taken for {'a class' if len(doubtful) == 1 else 'classes'}, although the name is close to a split's"
    ]


def _inner(name: str) -> str | None:
    """The folder that an image is in, ignoring splits and parts: `animals/cat/images/0.png` is in cat."""
    folders = name.split("/")[-2::-1]
    return next((folder for folder in folders if folder.lower() not in PARTS and not split_of(folder)), None)


def folders_within(classes: Mapping[str, str]) -> dict[str, set[str]]:
    """Class → folders inside its own that may be classes themselves, from each image's name and class."""
    inner: dict[str, set[str]] = {}
    for name, cls in classes.items():
        below = name.split("/")[:-1]
        deeper = below[below.index(cls) + 1 :] if cls in below else []
        if (
            deeper
            and deeper[0].lower() not in PARTS
            and not re.fullmatch(r"[\W\d_]+", deeper[0])
            and not split_of(deeper[0])
        ):
            inner.setdefault(cls, set()).add(deeper[0])
    return inner


def _nested(rows: Mapping[str, tuple[str | None, str]]) -> list[str]:
    """A note about folders inside a class folder that may be classes themselves: `animals/cat`, `animals/dog`."""
    inner = folders_within({name: cls for name, (_, cls) in rows.items()})
    several = {cls: sorted(names) for cls, names in inner.items() if len(names) > 1}
    if not several:
        return []
    cls, names = next(iter(several.items()))
    return [
        f"the images in folders of {cls}/ ({counted(names, 3)}) are of the class {cls}: shard.kind: class_folder with "
        f"shard.columns: {{label: {FOLDER}}} makes the inner folders the classes"
    ]


def _take_flat(files: Files, classes: Sequence[str], reading: Reading, found: Found) -> None:
    """Label the validation images that are outside class folders."""
    for prefix, names in found.flat.items():
        flat = find_labels(files, names, classes, reading, prefix)
        found.rows.update((name, ("val", cls)) for name, cls in flat.labels.items())
        found.read += flat.read
        found.notes.append(flat.note)


def _take_splits(splits: Mapping[str, str], reading: Reading, source: str, found: Found) -> None:
    """Splits from tables or lists where folders give none; where both do, a note about images on which they differ."""
    folders = {name: split for name, (split, _) in found.rows.items()}
    if any(folders.values()):
        found.notes += disagreeing(splits, folders)
        return
    by_name, notes = by_table(sorted(found.rows), splits, reading, source, found.passed_over)
    found.rows = {name: (split, found.rows[name][1]) for name, split in by_name.items()}
    found.notes += notes


def _numbered(classes: Sequence[str], source: str) -> dict[str, int]:
    for name in classes:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise UserError(
                f"shard.source {source}: the class folder '{shown_name(name)}' is not UTF-8 text: rename it"
            ) from None
    return {name: index for index, name in enumerate(classes)}
