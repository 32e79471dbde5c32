"""draw_shapes: the embedded data set, pictures of shapes with their class, caption, attributes and mask.

Reads   nothing
Writes  {train,val}/CLASS/NAME.png, masks/, captions.jsonl, attributes.jsonl
Params  shapes
"""

import io
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from demo.drawing import KINDS, Drawing, attribute_values, draw_shape
from workspace.errors import UserError
from workspace.manifest import write_manifest
from workspace.progress import Progress
from workspace.runs import RunFolder
from workspace.settings import Compute, Params, Settings
from workspace.stage import run_stage

CHUNK = 500


class ShapesSettings(Settings):
    """Section `shapes`: the embedded data set."""

    seed: NonNegativeInt = Field(description="of every picture")
    image_size: PositiveInt = Field(description="pixels a side")
    train: PositiveInt = Field(description="training pictures")
    val: PositiveInt = Field(description="validation pictures")
    radius: tuple[PositiveFloat, PositiveFloat] = Field(
        description="smallest and largest, as shares of the side"
    )
    texture_contrast: NonNegativeFloat = Field(
        description="of textured backgrounds, of the full contrast", le=1
    )
    rotation: NonNegativeFloat = Field(description="largest rotation either way, degrees", le=180)


SECTION, SETTINGS = "shapes", ShapesSettings


@dataclass(frozen=True)
class Inputs:
    """Nothing is read."""


def check(params: Params) -> None:
    """The radius must leave room for the object."""
    low, high = params.section(ShapesSettings).radius
    if not low <= high < 0.5:
        raise UserError(f"{params.path}: shapes.radius is [{low}, {high}]; expected smallest ≤ largest < 0.5")


def run(settings: ShapesSettings, compute: Compute, inputs: Inputs, folder: RunFolder) -> None:
    """Draw chunks of pictures in parallel, each into its own files."""
    drawing = Drawing(settings.image_size, settings.radius, settings.texture_contrast, settings.rotation)
    counts = {"train": settings.train, "val": settings.val}
    chunks = [(split, first) for split, count in counts.items() for first in range(0, count, CHUNK)]
    for split in counts:
        for kind in KINDS:
            (folder.out / split / kind).mkdir(parents=True)
            (folder.out / "masks" / split / kind).mkdir(parents=True)
    draw = partial(draw_chunk, drawing, settings.seed, counts, folder.out)
    captions, attributes = [], []
    total = sum(counts.values())
    with (
        Progress("shapes", total, "pictures", folder.progress_file) as progress,
        ProcessPoolExecutor(compute.threads or os.cpu_count(), mp_context=get_context("spawn")) as pool,
    ):
        for rows in pool.map(draw, chunks):
            captions += [{"name": name, "caption": caption} for name, caption, _ in rows]
            attributes += [{"name": name, "attributes": found} for name, _, found in rows]
            progress.update(len(captions))
    write_rows(folder.out / "captions.jsonl", captions)
    write_rows(folder.out / "attributes.jsonl", attributes)
    facts = {"classes": list(KINDS), "attributes": attribute_values(), "counts": counts}
    write_manifest(folder.out, "shapes", facts, made_from={})


def draw_chunk(
    drawing: Drawing, seed: int, counts: dict[str, int], out: Path, chunk: tuple[str, int]
) -> list[tuple[str, str, dict[str, str]]]:
    """Draw up to `CHUNK` pictures of a split from a number on; returns (name, caption, attributes) of each."""
    split, first = chunk
    rows = []
    for number in range(first, min(first + CHUNK, counts[split])):
        shape = draw_shape(drawing, seed, split, number)
        name = f"{split}/{shape.kind}/{number:06d}.png"
        (out / name).write_bytes(png(shape.image))
        (out / "masks" / name).write_bytes(png(shape.mask))
        rows.append((name, shape.caption, shape.attributes))
    return rows


def png(pixels: NDArray[np.uint8]) -> bytes:
    """Pixels as a png file."""
    made = io.BytesIO()
    Image.fromarray(pixels).save(made, "png", compress_level=6)
    return made.getvalue()


def write_rows(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write JSON lines."""
    path.write_text("".join(f"{json.dumps(row, sort_keys=True)}\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    run_stage("draw_shapes")
