"""WebDataset tars as a source. Which members are image, label, caption and mask is guessed, reported, and can be set."""

import os
import posixpath
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from shards.images import MOST_CLASSES
from shards.layouts.class_names import names_of
from shards.layouts.formats import OTHERS, PassedOver, add, is_picture, why_no_picture
from shards.layouts.listed import ImageList, Location, Source, SourceImage, clean_caption
from shards.layouts.members import (
    NAME,
    Roles,
    field_of,
    json_of,
    roles_of,
    texts_of,
    unread_fields,
    wants_json,
)
from shards.layouts.name_labels import labels_in_names
from shards.layouts.names import counted, hidden_part, split_of, splits_of
from shards.layouts.reading import FOLDER, KEPT_APART, SKIPPED_BY_ROLE, Reading, check_roles, divided
from shards.layouts.remote import remote_of, samples_of_remote
from shards.layouts.tars import tar_samples, tars_of
from shards.layouts.walking import HIDDEN_FILE, sorted_by_kind
from workspace.errors import UserError
from workspace.stores.cache import USUAL, Cache

NAMES = (
    "classnames.txt", "classes.txt", "class_names.txt", "labels.txt", "classes.json", "cat_to_name.json", "id2label.json",
    "label_map.json", "class_to_idx.json",
)  # fmt: skip
"""Files beside tars with one class name per line."""
LEFT_OUT = {"test": KEPT_APART, "skip": SKIPPED_BY_ROLE}
"""Splits whose samples are left out → why."""
NUMBERED = re.compile(r"[\d_.-]+(tar)?$")
NAMED_TAR = re.compile(r"\.t[a-z0-9]+(\.(gz|bz2|xz))?$", re.IGNORECASE)


@dataclass
class Read:
    """The samples read so far."""

    images: list[SourceImage] = field(default_factory=list)
    labels: list[str | None] = field(default_factory=list)
    passed_over: PassedOver = field(default_factory=dict)
    unread: Counter[str] = field(default_factory=Counter)


def list_webdataset(source: str, reading: Reading = Reading(), cache: Cache = USUAL) -> Source:  # noqa: B008 (frozen)
    """The images in the tars of a folder, a glob or braces, on a path or at a URL.

    Raises:
        UserError: a tar is damaged, only some samples have labels, or a label is not a class.
    """
    read = Read()
    samples, beside = _samples(source, reading, read.passed_over, cache)
    if reading.roles:
        check_roles(reading, _places(samples), (), source)
    roles = roles_of(samples.values(), reading)
    splits = tar_splits(list(samples), reading)
    within = {} if any(splits.values()) else key_splits(samples.values(), reading, source)
    for shown, keys in samples.items():
        for key, members in keys.items():
            split = splits[shown] or within.get(key)
            if split in LEFT_OUT:
                add(read.passed_over, f"samples {LEFT_OUT[split]}")
            else:
                _read(f"{shown}/{key}", members, split, roles, read)
    if roles.label == NAME and not any(read.labels):
        _label_by_names(read, source)
    images, classes = _labelled(read, beside, source)
    if "label" in roles.said and classes is None:
        raise UserError(
            f"shard.source {source}: shard.columns says label: {roles.label}, but no sample has a single label there"
        )
    notes = [*_notes(samples, roles, read, labelled=classes is not None), *_unread(read)]
    return Source(ImageList(images), classes, passed_over=read.passed_over, notes=tuple(notes))


Samples = Mapping[str, Mapping[str, Mapping[str, Location]]]
"""Tar, by its name relative to the source → key → extension → location."""


def _samples(
    source: str, reading: Reading, passed_over: PassedOver, cache: Cache
) -> tuple[Samples, list[Location]]:
    """Everything in a source's tars, and the files of class names beside them, nearest first."""
    if (remote := remote_of(source)) is not None:
        tars = remote.tars(reading.tars)
        within = {name for name in remote.files if posixpath.basename(name) in NAMES}
        nearest = posixpath.commonpath([f"/{posixpath.dirname(name)}" for name in tars]).strip("/")
        folders = [nearest, *(str(folder) for folder in PurePosixPath(nearest).parents)]
        names = [posixpath.normpath(f"{folder}/{name}").lstrip("/") for folder in folders for name in NAMES]
        chosen = [name for name in dict.fromkeys(names) if name in within]
        if remote.whole and reading.tars is None:
            others = sorted_by_kind(
                remote.root, [name for name in remote.files if name not in {*tars, *chosen}]
            )
            for why, count in others.passed_over().items():
                add(passed_over, why, count)
        return samples_of_remote(remote, tars, passed_over, cache), [remote.location(name) for name in chosen]
    paths = tars_of(source, reading.tars)
    beside = names_beside(source, paths)
    if Path(source).is_dir() and reading.tars is None:
        _count_others(Path(source), {*paths, *beside}, passed_over)
    root = root_of(source, paths)
    found = {os.path.relpath(path, root): tar_samples(path, passed_over) for path in paths}
    return found, [Location(str(path)) for path in beside]


def _count_others(folder: Path, read: Collection[Path], passed_over: PassedOver) -> None:
    """Count unread files beside the tars: img2dataset's Parquets, a README, pictures."""
    for path in folder.rglob("*"):
        if path.is_file() and path not in read:
            hidden = HIDDEN_FILE if hidden_part(path.relative_to(folder).as_posix()) else ""
            add(passed_over, hidden or why_no_picture(None, path.name) or "a picture beside the tars")


def _notes(
    samples: Mapping[str, Mapping[str, Any]], roles: Roles, read: Read, labelled: bool
) -> Iterator[str]:
    """Notes about the members' roles, and about other members that may be labels or captions."""
    yield f"members: {roles.told()}; `shard.columns: {{image: …, label: …}}` changes that"
    folders = sorted(
        {key.rpartition("/")[0].rpartition("/")[2] for keys in samples.values() for key in keys} - {"", "."}
    )
    if roles.label is None and len(folders) > 1:
        yield f"keys are in folders ({counted(folders, 3)}): shard.columns: {{label: folder}} makes them classes"
    names = None if labelled else labels_in_names(image.name for image in read.images)
    if names is not None and names.doubt not in ("splits", "parts"):
        yield f"keys look like labels ({names.counts()}): shard.columns: {{label: {NAME}}} makes them classes"
    yield from unread_fields(samples.values(), roles)


def _unread(read: Read) -> list[str]:
    """A note about unread members."""
    found = ", ".join(f"{count:,} .{name}" for name, count in read.unread.most_common(8))
    return [f"members not read: {found}"] if found else []


def root_of(source: str, tars: Sequence[Path]) -> Path:
    """The folder that tar names are relative to: the source, or for a glob the folder that contains all matches."""
    return Path(source) if Path(source).is_dir() else Path(os.path.commonpath([path.parent for path in tars]))


def names_beside(source: str, tars: Sequence[Path]) -> list[Path]:
    """Files of class names beside the tars, or above them inside the source, nearest first."""
    root = root_of(source, tars)
    nearest = Path(os.path.commonpath([path.parent for path in tars]))
    folders = [folder for folder in (nearest, *nearest.parents) if folder.is_relative_to(root)]
    return [path for folder in folders for name in NAMES if (path := folder / name).is_file()]


def _places(samples: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """Everything that a role may name: tars, their folders, their names without numbers, and folders inside them."""
    found = {NUMBERED.sub("", NAMED_TAR.sub("", Path(shown).name)) for shown in samples} | set(samples)
    return found | {
        os.path.join(folder, "")
        for keys in samples.values()
        for folder in {str(Path(key).parent) for key in keys}
    }


def tar_splits(shown: Sequence[str], reading: Reading) -> dict[str, str | None]:
    """Each tar's split, or the role skip, by its folders' names or its own name without the number."""
    stems = {name: NUMBERED.sub("", NAMED_TAR.sub("", Path(name).name)) for name in shown}
    named = splits_of(set(stems.values()))
    found = {}
    for name in shown:
        folders = Path(name).parent.parts
        role = next(filter(None, map(reading.role_of, (name, *folders, stems[name]))), None)
        split = role or next(filter(None, map(split_of, folders)), None) or named[stems[name]]
        found[name] = split if split in ("train", "val", *LEFT_OUT) else None
    return found


def key_splits(tars: Iterable[Mapping[str, Any]], reading: Reading, source: str) -> dict[str, str | None]:
    """Each key's split by the folder that it is in (`train/cat/001`), if no tar's name gives one.

    Raises:
        UserError: folders named like splits beside others.
    """
    keys = [key.removeprefix("./") for samples in tars for key in samples]
    if not any("/" in key for key in keys):
        return {}
    parts = divided(keys, reading, source, classes=True)
    return {name: part.split for part in parts for key in part.names for name in (key, f"./{key}")}


def _picture(members: Mapping[str, Location]) -> str | None:
    """The extension of a member whose first bytes are a picture's; for members whose name says nothing. None without one."""
    heads = (
        (name, replace(place, length=min(place.length, 16)))
        for name, place in members.items()
        if f".{name}" not in OTHERS
    )
    return next((name for name, place in heads if is_picture(place.read())), None)


def _read(name: str, members: Mapping[str, Location], split: str | None, roles: Roles, read: Read) -> None:
    """Add one sample."""
    image = next((extension for extension in roles.image if extension in members), None)
    image = image if image is not None or "image" in roles.said else _picture(members)
    if image is None:
        shown = ", ".join(f".{name}" if name else "no extension" for name in sorted(members))
        add(read.passed_over, f"samples without an image ({shown})")
        return
    fields = json_of(members["json"], name) if "json" in members and wants_json(roles) else {}
    texts = texts_of(_value(roles.caption, members, fields))
    used = {image, roles.label, roles.caption, roles.mask, "json" if wants_json(roles) else None}
    read.unread.update(extension for extension in members if extension not in used)
    read.labels.append(_label(roles.label, name, members, fields))
    mask = members.get(roles.mask) if roles.mask else None
    shown = f"{name}.{image}" if image else name
    read.images.append(SourceImage(shown, members[image], split, captions=texts, mask=mask))


def _value(role: str | None, members: Mapping[str, Location], fields: Mapping[str, Any]) -> Any:
    if role is None:
        return None
    if role.startswith("json."):
        return field_of(fields, role)
    return members[role].read().decode("utf-8-sig", "surrogateescape") if role in members else None


def _label(
    role: str | None, name: str, members: Mapping[str, Location], fields: Mapping[str, Any]
) -> str | None:
    if role == FOLDER:
        return Path(name).parent.name
    if role == NAME and NAME not in members:
        return None  # known once all are read
    value = _value(role, members, fields)
    if value is None or isinstance(value, (dict, list)):
        return None
    return re.sub(r"^(-?\d+)\.0$", r"\1", clean_caption(str(value)))


def _label_by_names(read: Read, source: str) -> None:
    """Label samples by their keys; samples without a label are counted.

    Raises:
        UserError: the keys contain no labels.
    """
    names = [image.name for image in read.images]
    guess = labels_in_names(names)
    if guess is None:
        raise UserError(
            f"shard.source {source}: no labels found in the keys ({counted(names, 3)}); expected keys such as cat_001"
        )
    read.images = [image for image in read.images if image.name in guess.labels]
    read.labels = [guess.labels[image.name] for image in read.images]
    if len(read.images) < len(names):
        add(read.passed_over, "samples without a label in the key", len(names) - len(read.images))


def _labelled(
    read: Read, beside: Sequence[Location], source: str
) -> tuple[list[SourceImage], tuple[str, ...] | None]:
    """The images with class numbers, and the class names: numeric labels index a file of names, texts are names."""
    labels = [label for label in read.labels if label is not None]
    if not labels:
        return read.images, None
    if len(labels) < len(read.images):
        raise UserError(
            f"shard.source {source}: {len(labels):,} of {len(read.images):,} samples have a .cls or other label; "
            "expected all or none"
        )
    empty = next((image.name for image, label in zip(read.images, labels, strict=True) if not label), None)
    if empty is not None:
        raise UserError(
            f"shard.source {source}: the label of {empty} is empty; expected a class number or a name"
        )
    numbers = all(re.fullmatch("[0-9]{1,9}", label) for label in labels)
    if numbers:
        top = max(map(int, labels))
        if top >= MOST_CLASSES:
            raise UserError(
                f"shard.source {source}: a label says {top}; expected a class number, 0 … {MOST_CLASSES - 1}"
            )
        named = _class_names(beside, frozenset(map(int, labels))) or {n: f"{n:04d}" for n in range(top + 1)}
        place = {number: index for index, number in enumerate(sorted(named))}
        names = tuple(named[number] for number in sorted(named))
        chosen = [place[int(label)] for label in labels]
    else:
        names = tuple(sorted(set(labels)))
        of = {name: number for number, name in enumerate(names)}
        chosen = [of[label] for label in labels]
    return [
        SourceImage(image.name, image.data, image.split, cls, image.captions, image.attributes, image.mask)
        for image, cls in zip(read.images, chosen, strict=True)
    ], names


def _class_names(beside: Sequence[Location], numbers: frozenset[int]) -> dict[int, str]:
    """Number → name from the first file; empty without files, UserError if some numbers have no name."""
    if not beside:
        return {}
    path, top = beside[0].url or beside[0].path, max(numbers)
    names = names_of(beside[0].read(), posixpath.basename(path), numbers, from_zero=True)
    if not numbers <= names.keys():
        raise UserError(f"{path} names {len(names):,} classes, but labels go up to {top}")
    several = len(set(names.values())) < len(names)
    return {number: f"{number:04d} {name}" if several else name for number, name in names.items()}
