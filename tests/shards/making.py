"""Small image shards, made by the functions that the stage uses."""

import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from shards.images import SKIPPED, SPLITS, ImageFacts, ImageShards
from shards.layouts.listed import ImageList, Location, SourceImage
from shards.making import gathering
from shards.making.indexing import IndexWriter, Row, records_of
from shards.making.pictures import Encoding
from shards.making.plans import plan_shards
from shards.making.writing import write_image_manifest, write_lines

KINDS = ("circle", "square")
COLOURS = ("red", "blue")


def picture(number: int, size: tuple[int, int] = (8, 8)) -> np.ndarray:
    """uint8 [H, W, 3] that depends on the number alone; size is (W, H)."""
    return np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)


def encoded(pixels: np.ndarray, form: str = "png") -> bytes:
    """Pixels as a picture file."""
    made = io.BytesIO()
    Image.fromarray(pixels).save(made, form)
    return made.getvalue()


def mask_of(pixels: np.ndarray) -> np.ndarray:
    """A mask that depends on the picture: [H, W], 0 or 255."""
    return np.where(pixels[..., 0] > 127, 255, 0).astype(np.uint8)


def write_pictures(folder: Path, names: list[str], size: tuple[int, int] = (8, 8)) -> None:
    """A png a name; number i of the list holds picture i."""
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(encoded(picture(number, size)))


def labelled_images(folder: Path, count: int, size: tuple[int, int] = (8, 8)) -> list[SourceImage]:
    """Images with a class, captions, attributes and a mask; every fourth is for validation."""
    images = []
    for number in range(count):
        name = f"{number}.png"
        pixels = picture(number, size)
        for part, data in (("images", pixels), ("masks", mask_of(pixels))):
            (folder / part).mkdir(parents=True, exist_ok=True)
            (folder / part / name).write_bytes(encoded(data))
        images.append(
            SourceImage(
                name,
                Location(str(folder / "images" / name)),
                "val" if number % 4 == 3 else "train",
                number % 2,
                (f"a {KINDS[number % 2]}", f"number {number}, größer × 2"),
                {"kind": KINDS[number % 2], "colour": COLOURS[number // 2 % 2]},
                Location(str(folder / "masks" / name)),
            )
        )
    return images


def make_shards(
    images: list[SourceImage], folder: Path, size: int = 8, samples_per_shard: int = 3
) -> ImageShards:
    """Image shards of labelled images, as the stage makes them."""
    encoding = Encoding(size, "png", 95)
    plans = plan_shards(ImageList(images), 0.25, 0, samples_per_shard)
    written = gathering.write_shards(plans, encoding, folder, 0.0, 1, folder.with_suffix(".progress.json"))
    for split in SPLITS:
        gathering.write_index(folder, split, written)
    write_lines(folder / SKIPPED, written.skipped())
    for side in folder.glob("*.json"):
        side.unlink()
    facts = ImageFacts(
        kind="folder",
        image_size=size,
        format="png",
        classes=KINDS,
        captions=True,
        attributes={"kind": KINDS, "colour": COLOURS},
        masks=True,
        counts={split: sum(sizes) for split, sizes in written.sizes.items()},
        shards=written.sizes,
    )
    write_image_manifest(folder, facts, {})
    return ImageShards.open(folder)


def write_index(folder: Path, split: str, rows: Sequence[Row], sizes: Sequence[int]) -> None:
    """Write the index of a split.

    Args:
        folder: of the artifact.
        split: train or val.
        rows: of all its samples, in order.
        sizes: samples in each tar.
    """
    extensions = sorted({name for row in rows for name in row["members"]})
    with IndexWriter(folder, split, extensions, len(rows), len(sizes)) as index:
        left: Iterable[Row] = iter(rows)
        for size in sizes:
            index.add(*records_of(list(islice(left, size)), extensions))


def rows_of(shards: ImageShards, split: str) -> list[dict[str, Any]]:
    """The rows of an index as `write_index` takes them."""
    return [asdict(row) for row in shards.index(split).rows()]


def without_masks(images: list[SourceImage]) -> list[SourceImage]:
    """The same images, unlabelled."""
    return [replace(image, mask=None, attributes=None, captions=(), cls=None) for image in images]
