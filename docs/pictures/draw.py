"""README's picture, from the artifacts of the last run: python docs/pictures/draw.py."""

import io
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reporting.figures import importance, kept_cells
from shards.tar import iterate_tar

RECONSTRUCTIONS, SAMPLES, OUT = (
    Path("artifacts/reconstructions"),
    Path("artifacts/samples"),
    Path("docs/pictures/demo.png"),
)
COLUMNS, SCALE, GAP = 18, 2, 4
Pixels = NDArray[np.uint8]


def row(images: list[Pixels]) -> Pixels:
    """Images side by side, on white."""
    cells = [np.pad(image, ((0, GAP), (0, GAP), (0, 0)), constant_values=255) for image in images]
    return np.concatenate(cells, axis=1)


def reconstructions() -> list[Pixels]:
    """Four rows: inputs, importance, kept cells, reconstructions."""
    rows: list[list[Pixels]] = [[], [], [], []]
    for example in json.loads((RECONSTRUCTIONS / "examples.json").read_text(encoding="utf-8"))[:COLUMNS]:
        stem = RECONSTRUCTIONS / "examples" / example["key"]
        image = np.asarray(Image.open(f"{stem}.input.png"))
        scores, kept, grid = np.array(example["scores"]), np.array(example["kept"]), tuple(example["grid"])
        rows[0].append(image)
        rows[1].append(importance(image, scores, grid))
        rows[2].append(kept_cells(image, kept, grid))
        rows[3].append(np.asarray(Image.open(f"{stem}.reconstruction.png")))
    return [row(images) for images in rows]


def samples() -> list[Pixels]:
    """Two rows of samples, in the order in which they were drawn."""
    pictures = [data for name, data in iterate_tar(SAMPLES / "000000.tar") if name.endswith(".png")]
    images = [np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in pictures[: 2 * COLUMNS]]
    return [row(images[:COLUMNS]), row(images[COLUMNS:])]


def main() -> None:
    """Write the picture."""
    parts = reconstructions()
    between = np.full((3 * GAP, parts[0].shape[1], 3), 255, np.uint8)
    picture = Image.fromarray(np.concatenate([*parts, between, *samples()]))
    picture.resize((picture.width * SCALE, picture.height * SCALE), Image.Resampling.NEAREST).save(
        OUT, optimize=True
    )


if __name__ == "__main__":
    main()
