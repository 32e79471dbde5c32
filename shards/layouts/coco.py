"""COCO's captions: annotations/captions_SPLIT.json beside SPLIT/NAME.jpg, or beside images/SPLIT/NAME.jpg."""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace

from shards.layouts.folder import keep_apart
from shards.layouts.formats import PassedOver, add
from shards.layouts.listed import Source, SourceImage, clean_caption
from shards.layouts.names import split_of
from shards.layouts.reading import SKIPPED_BY_ROLE, Part, Reading, check_roles
from shards.layouts.walking import Files, check_inside
from workspace.errors import UserError
from workspace.exact.manifest import parsed

CAPTIONS = re.compile(r"(.*/)?annotations/captions_(.+)\.json")
UNLISTED = "in no captions file"


@dataclass(frozen=True)
class CocoImage:
    """An entry of `images`; COCO's other fields are ignored."""

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


def parse_coco(data: bytes, where: str) -> CocoCaptions:
    """A captions file, its types checked.

    Raises:
        UserError: not JSON, or an entry that does not follow COCO's format.
    """
    return parsed(CocoCaptions, data, where)


def caption_files(files: Files) -> list[str]:
    """Names of the captions files of a source."""
    return [name for name in files.others if CAPTIONS.fullmatch(name)]


def list_coco(files: Files, reading: Reading, source: str) -> Source:
    """The images that a captions file lists, with all their captions; the others are skipped and counted.

    Raises:
        UserError: no captions file, a file that is not COCO's, or an image in two splits.
    """
    check_roles(reading, [*files.names, *(_folder(name) for name in caption_files(files))], (), source)
    found = caption_files(files)
    if not found:
        raise UserError(
            f"{source}/annotations holds no captions_*.json; expected COCO's layout (annotations/, train2017/, val2017/)"
        )
    images: dict[str, SourceImage] = {}
    passed_over, notes = files.passed_over(found), list[str]()
    there, listed = frozenset(files.names), set[str]()
    for path in found:
        folder = _folder(path)
        role = reading.role_of(folder) or split_of(folder)
        rows, strays = _rows(files, path, folder, there, None if role in ("test", "skip") else role)
        listed.update(image.name for image in rows)
        if strays:
            notes.append(f"{path}: skipped the captions of {strays:,} images that it does not list")
        if role in ("test", "skip"):
            names = [image.name for image in rows if image.name in there]
            notes += _left_out(role, folder, names, passed_over)
        else:
            _add(images, rows, path)
    unlisted = len(there - listed)
    if unlisted:
        add(passed_over, UNLISTED, unlisted)
    ordered = [images[name] for name in sorted(images)]
    return Source(ordered, passed_over=passed_over, read=tuple(found), notes=tuple(notes))


def _folder(path: str) -> str:
    """`train2017` of annotations/captions_train2017.json."""
    match = CAPTIONS.fullmatch(path)
    assert match is not None, path
    return match[2]


def _left_out(role: str, folder: str, names: list[str], passed_over: PassedOver) -> list[str]:
    if role == "skip":
        add(passed_over, SKIPPED_BY_ROLE, len(names))
        return []
    return keep_apart([Part(f"{folder}/", role, names)], passed_over)


def _rows(
    files: Files, path: str, folder: str, there: frozenset[str], split: str | None
) -> tuple[list[SourceImage], int]:
    """The images of one captions file, and how many images have captions without being listed."""
    value = parse_coco(files.locate(path).read(), files.shown(path))
    captions: dict[int | str, list[str]] = defaultdict(list)
    for row in value.annotations:
        if text := clean_caption(row.caption):
            captions[row.image_id].append(text)
    base = path.partition("annotations/")[0]
    rows = []
    for image in value.images:
        check_inside(image.file_name, files.shown(path))
        name = _place(base, folder, image.file_name, there)
        rows.append(SourceImage(name, files.locate(name), split, captions=tuple(captions[image.id])))
    return rows, len(captions.keys() - {image.id for image in value.images})


def _place(base: str, folder: str, name: str, there: frozenset[str]) -> str:
    """An image's path: in its split's folder, below images/, or in the source's top folder."""
    places = [f"{base}{folder}/{name}", f"{base}images/{folder}/{name}", f"{base}images/{name}", base + name]
    return next((place for place in places if place in there), places[0])


def _add(images: dict[str, SourceImage], rows: Iterable[SourceImage], path: str) -> None:
    for image in rows:
        other = images.get(image.name)
        if other is not None and other.split != image.split:
            raise UserError(
                f"{path} lists {image.name}, which another captions file has in {other.split or 'no split'}: "
                "leave one of them out"
            )
        captions = image.captions if other is None else (*other.captions, *image.captions)
        images[image.name] = replace(image, captions=tuple(dict.fromkeys(captions)))
