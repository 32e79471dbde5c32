"""Where images come from: folders, class folders, COCO, the embedded shapes, existing WebDataset tars.

Each kind lists its images without decoding them; bytes are read later, by the processes that make the shards.
"""

import glob
import hashlib
import json
import os
import tarfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from workspace.errors import UserError
from workspace.manifest import read_json, read_manifest

Kind = Literal["folder", "class_folder", "coco", "shapes", "webdataset"]
ROOT = "# root: "
EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
SPLIT_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "val"}


@dataclass(frozen=True)
class Location:
    """Where some bytes are: a whole file, or a part of one (length -1: to its end)."""

    path: str
    offset: int = 0
    length: int = -1

    def read(self) -> bytes:
        """The bytes."""
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            return file.read(self.length)


@dataclass(frozen=True)
class SourceImage:
    """An image of the source, not yet read.

    Attributes:
        name: path relative to the source: its identity (split by hash, order, report of bad files).
        data: its bytes.
        split: train or val where the source says so.
        cls: index of its class.
        captions: of the image.
        attributes: name → value.
        mask: bytes of its object's mask, a picture.
    """

    name: str
    data: Location
    split: str | None = None
    cls: int | None = None
    captions: tuple[str, ...] = ()
    attributes: Mapping[str, str] | None = None
    mask: Location | None = None


@dataclass(frozen=True)
class Source:
    """A listed source.

    Attributes:
        images: in the order of their names.
        classes: class names, sorted.
        attributes: attribute name → its values.
    """

    images: list[SourceImage]
    classes: tuple[str, ...] | None = None
    attributes: Mapping[str, tuple[str, ...]] | None = None


def list_source(kind: Kind, source: str) -> Source:
    """List the images of a source.

    Raises:
        UserError: it is not there, is not laid out as its kind asks, or holds no images.
    """
    reader = {
        "folder": _folder,
        "class_folder": _class_folder,
        "coco": _coco,
        "shapes": _shapes,
        "webdataset": _webdataset,
    }[kind]
    found = reader(source)
    if not found.images:
        raise UserError(
            f"shard.source {source} holds no images ({', '.join(EXTENSIONS)}); expected kind {kind}"
        )
    return found


def hashed_unit(seed: int, name: str) -> float:
    """A number in [0, 1) that depends on seed and name alone."""
    digest = hashlib.blake2b(f"{seed}/{name}".encode(errors="surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def walk(root: Path) -> Iterator[str]:
    """Relative paths of the images below a folder, sorted."""
    names = []
    for folder, _, files in os.walk(root, followlinks=True):
        names += [os.path.relpath(os.path.join(folder, name), root) for name in files if _is_image(name)]
    yield from sorted(names)


def _is_image(name: str) -> bool:
    return name.lower().endswith(EXTENSIONS) and not os.path.basename(name).startswith(".")


def _names(source: str) -> tuple[Path, Iterable[str]]:
    """The root of a source and the relative paths of its images: of a folder, or of a listing file."""
    path = Path(source)
    if path.is_dir():
        return path, walk(path)
    if not path.is_file():
        raise UserError(
            f"shard.source {source} does not exist; expected a folder of images, or a listing by `python -m shards.list`"
        )
    header, *rows = path.read_text(encoding="utf-8", errors="surrogateescape").removesuffix("\n").split("\n")
    if not header.startswith(ROOT):
        raise UserError(
            f"shard.source {source} is a file and no listing; make one with `python -m shards.list FOLDER --out {source}`"
        )
    return Path(header.removeprefix(ROOT)), sorted(row.split("\t")[0] for row in rows)


def _folder(source: str) -> Source:
    root, names = _names(source)
    return Source([SourceImage(name, Location(str(root / name))) for name in names])


def _class_folder(source: str) -> Source:
    """CLASS/…/NAME.jpg, or {train,val}/CLASS/…/NAME.jpg."""
    root, names = _names(source)
    rows = []
    for name in names:
        parts = Path(name).parts
        split = SPLIT_NAMES.get(parts[0].lower()) if len(parts) > 2 else None
        folders = parts[1:] if split else parts
        if len(folders) < 2:
            raise UserError(
                f"{root / name} lies in no class folder; expected CLASS/NAME.jpg, or kind folder for unlabelled images"
            )
        rows.append((name, split, folders[0]))
    classes = tuple(sorted({row[2] for row in rows}))
    number = {name: index for index, name in enumerate(classes)}
    images = [SourceImage(name, Location(str(root / name)), split, number[cls]) for name, split, cls in rows]
    return Source(images, classes)


def _coco(source: str) -> Source:
    """annotations/captions_SPLIT.json beside SPLIT/NAME.jpg."""
    root = Path(source)
    found = sorted((root / "annotations").glob("captions_*.json"))
    if not found:
        raise UserError(
            f"{root / 'annotations'} holds no captions_*.json; expected COCO's layout (annotations/, train2017/, val2017/)"
        )
    images = []
    for path in found:
        folder = path.stem.removeprefix("captions_")
        split = next((split for name, split in SPLIT_NAMES.items() if folder.startswith(name)), None)
        captions: dict[int, list[str]] = defaultdict(list)
        value = read_json(path)
        for row in value["annotations"]:
            if row["caption"].strip():
                captions[row["image_id"]].append(" ".join(row["caption"].split()))
        for row in value["images"]:
            name = f"{folder}/{row['file_name']}"
            images.append(
                SourceImage(name, Location(str(root / name)), split, captions=tuple(captions[row["id"]]))
            )
    return Source(sorted(images, key=lambda image: image.name))


def _shapes(source: str) -> Source:
    """The artifact of draw_shapes."""
    root = Path(source)
    facts = read_manifest(root, "shapes").facts
    classes = tuple(facts["classes"])
    captions = _by_name(root / "captions.jsonl", "caption")
    attributes = _by_name(root / "attributes.jsonl", "attributes")
    images = []
    for name in walk(root):
        if name.startswith("masks"):
            continue
        split, cls, _ = Path(name).parts
        images.append(
            SourceImage(
                name,
                Location(str(root / name)),
                split,
                classes.index(cls),
                (captions[name],),
                attributes[name],
                Location(str(root / "masks" / name)),
            )
        )
    return Source(images, classes, {name: tuple(values) for name, values in facts["attributes"].items()})


def _by_name(path: Path, field: str) -> dict[str, Any]:
    rows = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    return {row["name"]: row[field] for row in rows}


def _webdataset(source: str) -> Source:
    """Existing tars by a glob: an image a key, with .cls, .txt and .mask.png beside it."""
    if source.startswith("pipe:"):
        raise UserError(f"shard.source {source} would run a shell; expected a path or a glob of tars")
    paths = sorted(glob.glob(source))
    if not paths:
        raise UserError(
            f"shard.source {source} matches no file; expected a glob of tars, data/{{00..09}}.tar as data/*.tar"
        )
    images, labelled = [], 0
    root = os.path.commonpath([Path(path).parent for path in paths])
    for path in paths:
        for key, members in _tar_members(path).items():
            extension = next((name for name in members if f".{name}" in EXTENSIONS), None)
            if extension is None:
                continue
            label = members.get("cls")
            labelled += label is not None
            images.append(
                SourceImage(
                    f"{os.path.relpath(path, root)}/{key}.{extension}",
                    members[extension],
                    cls=None if label is None else _class_number(label, key),
                    captions=tuple(members["txt"].read().decode(errors="replace").splitlines())
                    if "txt" in members
                    else (),
                    mask=members.get("mask.png"),
                )
            )
    if labelled and labelled < len(images):
        raise UserError(
            f"shard.source {source}: {labelled} of {len(images)} samples have a .cls; expected all or none"
        )
    count = 1 + max((image.cls for image in images if image.cls is not None), default=-1)
    return Source(images, tuple(f"{number:04d}" for number in range(count)) or None)


def _class_number(label: Location, key: str) -> int:
    text = label.read()
    try:
        number = int(text)
    except ValueError:
        number = -1
    if number < 0:
        raise UserError(f"{label.path}: {key}.cls says {text[:20]!r}; expected a class number, 0 or more")
    return number


def _tar_members(path: str) -> dict[str, dict[str, Location]]:
    """Key → extension → where its bytes are."""
    samples: dict[str, dict[str, Location]] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for info in tar:
                folder, base = os.path.split(info.name)
                stem, _, extension = base.partition(".")
                if info.isfile() and extension:
                    key = os.path.join(folder, stem)
                    samples.setdefault(key, {})[extension.lower()] = Location(
                        path, info.offset_data, info.size
                    )
            assert tar.fileobj is not None
            tar.fileobj.seek(tar.offset)
            end = tar.fileobj.read(tarfile.BLOCKSIZE)
            if end and end != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError(f"it is torn after {len(samples):,} samples")
    except tarfile.TarError as error:
        raise UserError(f"{path} is no plain tar: {error}") from error
    return samples
