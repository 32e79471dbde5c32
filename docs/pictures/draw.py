"""README's picture, from a finished run of the demo: python docs/pictures/draw.py [--artifacts FOLDER] [--out PNG].

A row for each class: its first held-out image on the way through the MQ-VAE, and the first new images that were drawn of it.
Nothing is picked by hand.
"""

import argparse
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from models.mqvae import MQVAE
from reporting.figures import INK, PAPER, importance, kept_cells
from shards.images import ImageSample, ImageShards
from shards.tar import iterate_tar
from stages.reconstruct import reconstruct

COLUMNS, CELL, GAP, BETWEEN, MARGIN = 8, 96, 5, 28, 14
"""New images a row; pixels of each picture, about, and of what lies between."""
LABELS, HEADS = 92, 62
"""Pixels left of the rows for the classes' names, and above them for the columns'."""
LARGE, SMALL = 19, 14
FAINT = (134, 138, 146)
Pixels = NDArray[np.uint8]


def of_each_class(shards: ImageShards, names: Sequence[str]) -> list[ImageSample]:
    """The first held-out image of each class, in the order of the names."""
    index = shards.index("val")
    found: dict[int, ImageSample] = {}
    for number in range(len(index)):
        sample = index.read(number)
        if sample.cls is not None:
            found.setdefault(sample.cls, sample)
        if len(found) == len(names):
            break
    return [found[number] for number in range(len(names))]


def through_the_model(samples: Sequence[ImageSample], model: MQVAE) -> dict[str, list[Pixels]]:
    """Column title → a picture of each sample."""
    back, grid = reconstruct(model, samples, 0, "fp32"), (model.config.grid, model.config.grid)
    rows = list(zip(samples, back.scores, back.positions, back.images, strict=True))
    return {
        "image": [sample.image for sample in samples],
        "importance": [importance(sample.image, scores, grid) for sample, scores, _, _ in rows],
        f"kept {model.config.num_kept} of {model.config.num_positions}": [
            kept_cells(sample.image, kept, grid) for sample, _, kept, _ in rows
        ],
        "reconstruction": [made for _, _, _, made in rows],
    }


def new_images(folder: Path, classes: int) -> list[list[Pixels]]:
    """The first samples of each class, in the order in which they were drawn."""
    found: list[list[Pixels]] = [[] for _ in range(classes)]
    picture = b""
    for path in sorted(folder.glob("*.tar")):
        for name, data in iterate_tar(path):
            if name.endswith(".png"):
                picture = data
                continue
            row = found[json.loads(data)["cls"]]
            if len(row) < COLUMNS:
                row.append(np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")))
    return found


def picture_of(
    names: Sequence[str], columns: Mapping[str, list[Pixels]], made: Sequence[list[Pixels]]
) -> Image.Image:
    """The whole page: names on the rows, titles on the columns."""
    scale = max(1, CELL // columns["image"][0].shape[0])
    side = columns["image"][0].shape[0] * scale
    count = max(map(len, made))
    step, left = side + GAP, MARGIN + LABELS
    right = left + len(columns) * step + BETWEEN
    size = (right + count * step - GAP + MARGIN, HEADS + len(names) * step - GAP + MARGIN)
    page = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(page)
    heads = (
        (left, "held-out images"),
        (right, f"new images: the first {count} of each class"),
    )
    for x, text in heads:
        draw.text((x, MARGIN), text, fill=INK, font=ImageFont.load_default(LARGE))
    for place, title in enumerate(columns):
        middle = left + place * step + side // 2
        draw.text((middle, HEADS - 8), title, fill=FAINT, font=ImageFont.load_default(SMALL), anchor="ms")
    for row, name in enumerate(names):
        y = HEADS + row * step
        draw.text((left - 10, y + side // 2), name, fill=INK, font=ImageFont.load_default(LARGE), anchor="rm")
        for place, images in enumerate(columns.values()):
            page.paste(enlarged(images[row], scale), (left + place * step, y))
        for place, image in enumerate(made[row]):
            page.paste(enlarged(image, scale), (right + place * step, y))
    return page


def enlarged(image: Pixels, scale: int) -> Image.Image:
    """Each pixel as a square."""
    return Image.fromarray(np.ascontiguousarray(image.repeat(scale, axis=0).repeat(scale, axis=1)))


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--artifacts", type=Path, default=Path("artifacts"), help="of a finished run (artifacts)"
    )
    parser.add_argument("--out", type=Path, default=Path("docs/pictures/demo.png"), help="the PNG")
    arguments = parser.parse_args()
    shards = ImageShards.open(arguments.artifacts / "shards")
    names = shards.facts.classes or ()
    columns = through_the_model(
        of_each_class(shards, names), MQVAE.from_pretrained(arguments.artifacts / "mqvae")
    )
    made = new_images(arguments.artifacts / "samples", len(names))
    picture_of(names, columns, made).save(arguments.out, optimize=True)


if __name__ == "__main__":
    main()
