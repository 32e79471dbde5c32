"""COCO's captions: annotations/captions_SPLIT.json beside SPLIT/NAME.jpg."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from shards.layouts.listed import Location, Source, SourceImage, clean_caption
from shards.layouts.walking import SPLIT_NAMES, check_inside
from workspace.errors import UserError
from workspace.manifest import parsed
from workspace.progress import say

MOST_COCO_BYTES = 1 << 30


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


def list_coco(source: str) -> Source:
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
            check_inside(image.file_name, str(path))
            name = f"{folder}/{image.file_name}"
            images.append(
                SourceImage(name, Location(str(root / name)), split, captions=tuple(captions[image.id]))
            )
        strays = captions.keys() - {image.id for image in value.images}
        if strays:
            say(f"{path}: captions of {len(strays):,} images that it does not list are passed over")
    return Source(sorted(images, key=lambda image: image.name))
