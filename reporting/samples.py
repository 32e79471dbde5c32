"""Generated images for viewing: a labelled grid, and plain PNG files."""

import io
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reporting.figures import image_grid, kept_cells
from shards.samples import pngs

GRID_IMAGES, GRID_COLUMNS, GRID_CELL = 64, 8, 96


def write_grid(shards: Sequence[Path], labels: Sequence[str], path: Path) -> None:
    """Write the first 64 images of sample shards as a grid; image i has the label `labels[i % len(labels)]`.

    Args:
        shards: tars of KEY.png and KEY.json, in order.
        labels: class names or prompts; empty for none.
        path: the PNG to write.
    """
    images = [np.asarray(Image.open(io.BytesIO(content))) for _, content in islice(pngs(shards), GRID_IMAGES)]
    told = [labels[index % len(labels)] for index in range(len(images))] if labels else None
    scale = max(1, GRID_CELL // images[0].shape[1])
    image_grid(np.stack(images), GRID_COLUMNS, scale, told).save(path)


def write_png_files(shards: Sequence[Path], folder: Path) -> None:
    """Write each image of sample shards as KEY.png in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in pngs(shards):
        (folder / name).write_bytes(content)


def write_before(
    image: NDArray[np.uint8], back: NDArray[np.uint8], stays: NDArray[np.int64], grid: int, path: Path
) -> None:
    """A picture of which a part is drawn again: itself, the part that stays, its reconstruction.

    Args:
        image, back: uint8 [S, S, 3].
        stays: cells that stay, ascending.
        grid: cells per side.
        path: the PNG to write.
    """
    pictures = np.stack([image, kept_cells(image, stays, (grid, grid)), back])
    labels = ["picture", "what stays", "reconstruction"]
    image_grid(pictures, len(labels), max(1, GRID_CELL // image.shape[1]), labels).save(path)
