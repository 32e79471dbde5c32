"""Where images come from: folders, class folders, COCO, the embedded shapes, existing WebDataset tars.

Each kind lists its images without decoding them; bytes are read later, by the processes that make the shards.
"""

import glob
import hashlib
import os
import re
import stat
import tarfile
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal, TypeVar

from shards.images import MOST_CLASSES
from shards.tar import BROKEN, check_end, plain_members
from workspace.errors import UserError
from workspace.manifest import NAME, parsed, read_manifest, validated
from workspace.progress import say

Row = TypeVar("Row")
Kind = Literal["folder", "class_folder", "coco", "shapes", "webdataset"]
ROOT = "# root: "
EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif")
MOST_FILE_BYTES = 1 << 29
"""Bytes of an image file at most: a sparse file of a terabyte is read by nobody."""
MOST_COCO_BYTES = 1 << 30
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
SPLIT_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "val"}


@dataclass(frozen=True)
class Location:
    """Where some bytes are: a whole file, or a part of one (length -1: to its end)."""

    path: str
    offset: int = 0
    length: int = -1

    def read(self) -> bytes:
        """The bytes.

        Raises:
            OSError: there is no such file, it may not be read, it is no plain file (a FIFO would be waited for without
                end), or it is larger than 512 MiB.
        """
        descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise OSError("not a plain file")
            length = found.st_size - self.offset if self.length < 0 else self.length
            if length > MOST_FILE_BYTES:
                raise OSError(f"larger than {MOST_FILE_BYTES:,} bytes")
            file.seek(self.offset)
            return file.read(length)


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
        made_from: name → fingerprint, where the source is an artifact.
    """

    images: list[SourceImage]
    classes: tuple[str, ...] | None = None
    attributes: Mapping[str, tuple[str, ...]] | None = None
    made_from: Mapping[str, str] = field(default_factory=dict)


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
    if len(found.classes or ()) > MOST_CLASSES:
        raise UserError(
            f"shard.source {source} has {len(found.classes or ()):,} classes, expected at most {MOST_CLASSES:,}"
        )
    return found


def clean_caption(text: str) -> str:
    """A caption as one line: control characters and line ends become spaces, what is no Unicode becomes U+FFFD."""
    text = text.encode("utf-8", "replace" if text.isascii() else "surrogatepass").decode("utf-8", "replace")
    return " ".join("".join(" " if unicodedata.category(sign) == "Cc" else sign for sign in text).split())


def hashed_unit(seed: int, name: str) -> float:
    """A number in [0, 1) that depends on seed and name alone."""
    digest = hashlib.blake2b(f"{seed}/{name}".encode(errors="surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def shown_name(name: str) -> str:
    r"""A file's name as text: bytes that are no UTF-8 are written `\xe9`."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def walk(root: Path) -> Iterator[str]:
    """Relative paths of the images below a folder, sorted; a link to a folder that it lies in is not followed.

    Raises:
        UserError: a folder that cannot be listed: its images would be missing without a word.
    """
    names = []
    for folder, inner, files in os.walk(root, followlinks=True, onerror=_unlisted):
        above = {_place(parent) for parent in (Path(folder), *Path(folder).absolute().parents)}
        inner[:] = [name for name in inner if _place(Path(folder, name)) not in above]
        names += [os.path.relpath(os.path.join(folder, name), root) for name in files if _is_image(name)]
    yield from sorted(names)


def _unlisted(error: OSError) -> None:
    raise UserError(f"{error.filename!r} cannot be listed ({error.strerror}): its images would be left out")


def _place(folder: Path) -> tuple[int, int]:
    found = folder.stat()
    return found.st_dev, found.st_ino


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
    listed = sorted(row.split("\t")[0] for row in rows)
    for name in listed:
        _check_inside(name, source)
    return Path(header.removeprefix(ROOT)), listed


def _check_inside(name: str, source: str) -> None:
    """UserError where a name that a source lists leads out of it."""
    if PurePosixPath(name).is_absolute() or ".." in name.split("/") or "\0" in name:
        raise UserError(f"shard.source {source} lists {name[:200]!r}, which lies outside of it: refused")


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
    torn = next((name for name in classes if not _is_text(name)), None)
    if torn is not None:
        raise UserError(f"shard.source {source}: the class folder {torn!r} is no UTF-8 text: rename it")
    number = {name: index for index, name in enumerate(classes)}
    images = [SourceImage(name, Location(str(root / name)), split, number[cls]) for name, split, cls in rows]
    return Source(images, classes)


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


@dataclass(frozen=True)
class CocoImage:
    """An entry of `images`; what else COCO says is passed over."""

    id: int | str
    file_name: str


@dataclass(frozen=True)
class CocoCaption:
    """An entry of `annotations`."""

    image_id: int | str
    caption: str


@dataclass(frozen=True)
class CocoCaptions:
    """A file captions_SPLIT.json."""

    images: list[CocoImage]
    annotations: list[CocoCaption]


def read_coco(path: Path) -> CocoCaptions:
    """A captions file, its types checked.

    Raises:
        UserError: too large, not JSON, or not COCO's form: the first entry that does not fit.
    """
    if path.stat().st_size > MOST_COCO_BYTES:
        raise UserError(f"{path} has {path.stat().st_size:,} bytes, expected at most {MOST_COCO_BYTES:,}")
    return parsed(CocoCaptions, path.read_bytes(), str(path))


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
        captions: dict[int | str, list[str]] = defaultdict(list)
        value = read_coco(path)
        for row in value.annotations:
            if text := clean_caption(row.caption):
                captions[row.image_id].append(text)
        for image in value.images:
            _check_inside(image.file_name, str(path))
            name = f"{folder}/{image.file_name}"
            images.append(
                SourceImage(name, Location(str(root / name)), split, captions=tuple(captions[image.id]))
            )
        strays = captions.keys() - {image.id for image in value.images}
        if strays:
            say(f"{path}: captions of {len(strays):,} images that it does not list are passed over")
    return Source(sorted(images, key=lambda image: image.name))


@dataclass(frozen=True)
class ShapesFacts:
    """What the manifest of drawn shapes says."""

    classes: tuple[str, ...]
    attributes: Mapping[str, tuple[str, ...]]


def _shapes(source: str) -> Source:
    """The artifact of draw_shapes, every file of it checked."""
    root = Path(source)
    manifest = read_manifest(root, "shapes")
    facts = validated(ShapesFacts, manifest.facts, str(root / NAME))
    captions = {row.name: row.caption for row in _lines(CaptionRow, root / "captions.jsonl")}
    attributes = {row.name: row.attributes for row in _lines(AttributesRow, root / "attributes.jsonl")}
    images = []
    for name in sorted(manifest.files):
        if name.startswith("masks/") or not _is_image(name):
            continue
        split, _, rest = name.partition("/")
        cls = rest.partition("/")[0]
        if cls not in facts.classes or name not in captions or name not in attributes:
            raise UserError(f"{root / name} has no class, caption or attributes: run `dvc repro draw_shapes`")
        images.append(
            SourceImage(
                name,
                Location(str(root / name)),
                split,
                facts.classes.index(cls),
                (captions[name],),
                attributes[name],
                Location(str(root / "masks" / name)),
            )
        )
    return Source(images, facts.classes, facts.attributes, {"shapes": manifest.fingerprint})


@dataclass(frozen=True)
class CaptionRow:
    """A line of captions.jsonl."""

    name: str
    caption: str


@dataclass(frozen=True)
class AttributesRow:
    """A line of attributes.jsonl."""

    name: str
    attributes: dict[str, str]


def _lines(kind: type[Row], path: Path) -> Iterator[Row]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            yield parsed(kind, line, f"{path}, line {number}")


def _webdataset(source: str) -> Source:
    """Existing tars by a glob: an image a key, with .cls, .txt and .mask.png beside it."""
    if URL.match(source):
        raise UserError(
            f"shard.source {source} is a URL or a command, which webdataset would run in a shell: refused; "
            "fetch the tars first, and give a path or a glob"
        )
    paths = sorted(glob.glob(source))
    if not paths:
        raise UserError(
            f"shard.source {source} matches no file; expected a glob of tars, data/{{00..09}}.tar as data/*.tar"
        )
    root = os.path.commonpath([Path(path).parent for path in paths])
    images = [image for path in paths for image in _tar_images(path, os.path.relpath(path, root))]
    labelled = sum(image.cls is not None for image in images)
    if labelled and labelled < len(images):
        raise UserError(
            f"shard.source {source}: {labelled} of {len(images)} samples have a .cls; expected all or none"
        )
    count = 1 + max((image.cls for image in images if image.cls is not None), default=-1)
    return Source(images, tuple(f"{number:04d}" for number in range(count)) or None)


def _tar_images(path: str, shown: str) -> Iterator[SourceImage]:
    """The samples of a tar that have an image."""
    for key, members in _tar_members(path).items():
        extension = next((name for name in members if f".{name}" in EXTENSIONS), None)
        if extension is not None:
            label, text = members.get("cls"), members.get("txt")
            lines = [] if text is None else text.read().decode(errors="replace").splitlines()
            yield SourceImage(
                f"{shown}/{key}.{extension}",
                members[extension],
                cls=None if label is None else _class_number(label, key),
                captions=tuple(filter(None, map(clean_caption, lines))),
                mask=members.get("mask.png"),
            )


def _class_number(label: Location, key: str) -> int:
    text = label.read()
    number = int(text) if re.fullmatch(rb"\s*[0-9]{1,9}\s*", text) else -1
    if not 0 <= number < MOST_CLASSES:
        raise UserError(
            f"{label.path}: {key}.cls says {text[:20]!r}; expected a class number, 0 … {MOST_CLASSES - 1}"
        )
    return number


def _tar_members(path: str) -> dict[str, dict[str, Location]]:
    """Key → extension → where its bytes are."""
    samples: dict[str, dict[str, Location]] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for info in plain_members(tar, Path(path)):
                folder, base = os.path.split(info.name)
                stem, _, extension = base.partition(".")
                members = samples.setdefault(os.path.join(folder, stem), {})
                if extension.lower() in members:
                    raise UserError(
                        f"{path}: the member {info.name!r} stands twice: one of them would be lost"
                    )
                if extension:
                    members[extension.lower()] = Location(path, info.offset_data, info.size)
            check_end(tar, Path(path), f"after {len(samples):,} samples")
    except BROKEN as error:
        raise UserError(f"{path} is no plain tar: {error}") from error
    return samples
