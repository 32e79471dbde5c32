"""WebDataset tars as a source: which members are image, label, caption and mask is guessed, shown, and a setting."""

import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shards.images import MOST_CLASSES
from shards.layouts.formats import PICTURES, PassedOver, add
from shards.layouts.listed import Location, Source, SourceImage, clean_caption
from shards.layouts.names import split_of
from shards.layouts.reading import KEPT_APART, SKIPPED_BY_ROLE, Reading
from shards.layouts.tars import MASK_WORDS, tar_samples, tars_of
from workspace.errors import UserError
from workspace.manifest import parse_json

LOSSLESS = ("png", "tif", "tiff", "bmp", "gif")
"""Pictures that are as likely a label map as a photograph: beside another picture they are not the image."""
LABELS = ("cls", "label", "class", "cls.txt", "label.txt", "index")
CAPTIONS = ("txt", "caption", "text", "caption.txt")
JSON_LABELS = ("label", "class", "cls", "class_name", "label_name")
JSON_CAPTIONS = ("caption", "captions", "text", "txt")
NAMES = ("classnames.txt", "classes.txt", "class_names.txt", "labels.txt", "classes.json")
"""Files beside tars with a class's name a line."""
FOLDER = "folder"
"""`shard.columns: {label: folder}` takes the folder in which a key lies."""


@dataclass(frozen=True)
class Roles:
    """Which members of a sample are what; a name `json.FIELD` is a field of the member json.

    Attributes:
        image: extensions, the first that a sample has is taken.
        label: of the class.
        caption: of captions.
        mask: of the object's mask.
    """

    image: tuple[str, ...]
    label: str | None
    caption: str | None
    mask: str | None

    def told(self) -> str:
        """`image jpg, label cls, caption none, mask none`."""
        found = {
            "image": "/".join(self.image), "label": self.label, "caption": self.caption, "mask": self.mask
        }  # fmt: skip
        return ", ".join(f"{use} {name or 'none'}" for use, name in found.items())


@dataclass
class Read:
    """What has been read of the samples so far."""

    images: list[SourceImage] = field(default_factory=list)
    labels: list[str | None] = field(default_factory=list)
    passed_over: PassedOver = field(default_factory=dict)
    unread: Counter[str] = field(default_factory=Counter)


def list_webdataset(source: str, reading: Reading = Reading()) -> Source:  # noqa: B008 (frozen)
    """Tars of a folder, a glob or braces.

    Raises:
        UserError: a tar is damaged, labels are there for some samples alone, or are no class.
    """
    paths = tars_of(source, reading.tars)
    root = root_of(source, paths)
    samples = {path: tar_samples(path) for path in paths}
    roles = roles_of(samples.values(), reading)
    read = Read()
    for path in paths:
        shown = os.path.relpath(path, root)
        split, why = _split(shown, reading)
        if why:
            add(read.passed_over, f"samples {why}", len(samples[path]))
            continue
        for key, members in samples[path].items():
            _read(f"{shown}/{key}", members, split, roles, read)
    images, classes = _labelled(read, names_beside(source, paths), source)
    notes = [f"members: {roles.told()}; `shard.columns: {{image: …, label: …}}` says otherwise"]
    if read.unread:
        notes.append(
            "members not read: " + ", ".join(f"{n:,} .{name}" for name, n in read.unread.most_common(8))
        )
    return Source(images, classes, passed_over=read.passed_over, notes=tuple(notes))


def root_of(source: str, tars: Sequence[Path]) -> Path:
    """The folder to which names of tars are relative: the source, or of a glob the one that holds all that match."""
    return Path(source) if Path(source).is_dir() else Path(os.path.commonpath([path.parent for path in tars]))


def names_beside(source: str, tars: Sequence[Path]) -> list[Path]:
    """Files of class names beside the tars, or above them within the source; the nearest first."""
    root = root_of(source, tars)
    nearest = Path(os.path.commonpath([path.parent for path in tars]))
    folders = [folder for folder in (nearest, *nearest.parents) if folder.is_relative_to(root)]
    return [path for folder in folders for name in NAMES if (path := folder / name).is_file()]


def _split(shown: str, reading: Reading) -> tuple[str | None, str]:
    """The split of a tar, by its folders' names or its own, and why it is left out ("" where it is not)."""
    parts = Path(shown).with_suffix("").parts
    stem = re.sub(r"[\d_.-]+(tar)?$", "", parts[-1])
    names = (*parts[:-1], stem)
    role = next(filter(None, (reading.role_of(name) for name in names)), None)
    split = role or next(filter(None, map(split_of, names)), None)
    if split == "test":
        return None, KEPT_APART
    if split == "skip":
        return None, SKIPPED_BY_ROLE
    return (split if split in ("train", "val") else None), ""


def roles_of(tars: Any, reading: Reading) -> Roles:
    """What the members of all samples are, by the user's word or by their names.

    Raises:
        UserError: a member that the user names is in no sample.
    """
    found: Counter[str] = Counter(
        name for samples in tars for members in samples.values() for name in members
    )
    said = dict(reading.columns)
    for use, name in said.items():
        first = name.split(".")[0] if name.startswith("json.") else name
        if first != FOLDER and first not in found:
            there = ", ".join(f".{name}" for name, _ in found.most_common(12))
            raise UserError(f"shard.columns: {{{use}: {name}}} is a member of no sample; members are {there}")
    pictures = [name for name in found if f".{name.rpartition('.')[2]}" in PICTURES]
    masks = [name for name in pictures if name.split(".")[0] in MASK_WORDS]
    plain = sorted(set(pictures) - set(masks), key=lambda name: (name in LOSSLESS, -found[name], name))
    fields = _json_fields(tars) if "json" in found else {}
    label = next((name for name in LABELS if name in found), None)
    caption = next((name for name in CAPTIONS if name in found), None)
    return Roles(
        (said["image"],) if "image" in said else tuple(plain),
        said.get("label") or label or next((f"json.{name}" for name in JSON_LABELS if name in fields), None),
        said.get("caption")
        or caption
        or next((f"json.{name}" for name in JSON_CAPTIONS if name in fields), None),
        said.get("mask") or next(iter(sorted(masks)), None),
    )


def _json_fields(tars: Any) -> Mapping[str, Any]:
    """The fields of the first sample that has a member json."""
    first = next(members["json"] for samples in tars for members in samples.values() if "json" in members)
    return _json(first)


def _json(location: Location) -> Mapping[str, Any]:
    value = parse_json(location.read(), f"{location.path}, a member json")
    return value if isinstance(value, dict) else {}


def _read(name: str, members: Mapping[str, Location], split: str | None, roles: Roles, read: Read) -> None:
    """Add one sample."""
    image = next((extension for extension in roles.image if extension in members), None)
    if image is None:
        add(read.passed_over, f"samples without an image (.{', .'.join(sorted(members))})")
        return
    fields = _json(members["json"]) if "json" in members and _wants_json(roles) else {}
    texts = _texts(roles.caption, members, fields)
    used = {image, roles.label, roles.caption, roles.mask, "json" if _wants_json(roles) else None}
    read.unread.update(extension for extension in members if extension not in used)
    read.labels.append(_label(roles.label, name, members, fields))
    mask = members.get(roles.mask) if roles.mask else None
    read.images.append(SourceImage(f"{name}.{image}", members[image], split, captions=texts, mask=mask))


def _wants_json(roles: Roles) -> bool:
    return any(name is not None and name.startswith("json.") for name in (roles.label, roles.caption))


def _value(role: str | None, members: Mapping[str, Location], fields: Mapping[str, Any]) -> Any:
    if role is None:
        return None
    if role.startswith("json."):
        return fields.get(role.removeprefix("json."))
    return members[role].read().decode(errors="replace") if role in members else None


def _texts(role: str | None, members: Mapping[str, Location], fields: Mapping[str, Any]) -> tuple[str, ...]:
    value = _value(role, members, fields)
    lines = value if isinstance(value, list) else value.splitlines() if isinstance(value, str) else []
    return tuple(filter(None, (clean_caption(line) for line in lines if isinstance(line, str))))


def _label(
    role: str | None, name: str, members: Mapping[str, Location], fields: Mapping[str, Any]
) -> str | None:
    if role == FOLDER:
        return Path(name).parent.name
    value = _value(role, members, fields)
    return None if value is None or isinstance(value, (dict, list)) else str(value).strip()


def _labelled(
    read: Read, beside: Sequence[Path], source: str
) -> tuple[list[SourceImage], tuple[str, ...] | None]:
    """The images with their classes' numbers, and the classes' names: numbers index a file of names, texts are names."""
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
        names = _class_names(beside, top) or tuple(f"{number:04d}" for number in range(top + 1))
        chosen = [int(label) for label in labels]
    else:
        names = tuple(sorted(set(labels)))
        place = {name: number for number, name in enumerate(names)}
        chosen = [place[label] for label in labels]
    return [
        SourceImage(image.name, image.data, image.split, cls, image.captions, image.attributes, image.mask)
        for image, cls in zip(read.images, chosen, strict=True)
    ], names


def _class_names(beside: Sequence[Path], top: int) -> tuple[str, ...] | None:
    """Class names from the first of some files; None without one, UserError where it has too few."""
    if not beside:
        return None
    path = beside[0]
    text = path.read_text(encoding="utf-8", errors="replace")
    rows: Sequence[str] = json.loads(text) if path.suffix == ".json" else text.splitlines()
    names = tuple(str(row).strip() for row in rows if str(row).strip())
    if len(names) <= top:
        raise UserError(f"{path} names {len(names):,} classes, and labels go to {top}")
    return (
        names if len(set(names)) == len(names) else tuple(f"{n:04d} {name}" for n, name in enumerate(names))
    )
