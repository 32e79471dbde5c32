"""draw_shapes: the built-in data set, pictures of shapes with class, caption, attributes and mask.

Reads   nothing
Writes  {train,val}/000000.tar: SPLIT/CLASS/NUMBER with .png, .cls, .txt, .attributes.json, .mask.png; `tar xf` unpacks folders
Params  shapes
"""

import io
import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from demo.drawing import KINDS, Drawing, Shape, attribute_values, draw_shape
from settings.shapes import ShapesSettings
from shards.shapes import ShapesFacts
from workflow.running import run_stage
from workflow.stage import Stage
from workspace.exact.manifest import atomic_path, write_manifest
from workspace.exact.tar import START, TarWriter, load_writer
from workspace.links import link_or_copy
from workspace.progress import Progress
from workspace.runs import RunFolder
from workspace.settings import Compute

PER_TAR = 500


@dataclass(frozen=True)
class Inputs:
    """Nothing is read."""


def run(settings: ShapesSettings, compute: Compute, inputs: Inputs, folder: RunFolder) -> None:
    """Draw tars of pictures in parallel; finished tars are not drawn again."""
    drawing = Drawing(settings.image_size, settings.radius, settings.texture_contrast, settings.rotation)
    counts = {"train": settings.train, "val": settings.val}
    plans = [
        TarPlan(split, number, range(first, min(first + PER_TAR, count)))
        for split, count in counts.items()
        for number, first in enumerate(range(0, count, PER_TAR))
    ]
    load_writer()
    draw = partial(draw_tar, drawing, settings.seed, folder.work)
    done = 0
    with (
        Progress("shapes", sum(counts.values()), "pictures", folder.progress_file) as progress,
        ProcessPoolExecutor(compute.threads_alone, mp_context=get_context(START)) as pool,
    ):
        for plan, made in zip(plans, pool.map(draw, plans), strict=True):
            (folder.out / plan.split).mkdir(exist_ok=True)
            link_or_copy(made, folder.out / plan.name)
            progress.update(done := done + len(plan.numbers))
    write_manifest(folder.out, "shapes", asdict(ShapesFacts(KINDS, attribute_values(), counts)), {})


@dataclass(frozen=True)
class TarPlan:
    """One tar: its split, its number in the split, and its pictures' numbers."""

    split: str
    number: int
    numbers: range

    @property
    def name(self) -> str:
        """Its path in the artifact."""
        return f"{self.split}/{self.number:06d}.tar"


def draw_tar(drawing: Drawing, seed: int, work: Path, plan: TarPlan) -> Path:
    """Draw a tar below `work` unless it exists: SPLIT/KIND/NUMBER with picture, class, caption, attributes and mask."""
    made = work / plan.name
    if made.is_file():
        return made
    with atomic_path(made) as temporary, TarWriter(temporary) as tar:
        for number in plan.numbers:
            shape = draw_shape(drawing, seed, plan.split, number)
            for extension, content in members_of(shape).items():
                tar.add(f"{plan.split}/{shape.kind}/{number:06d}.{extension}", content)
    return made


def members_of(shape: Shape) -> dict[str, bytes]:
    """A picture's WebDataset members by extension."""
    return {
        "png": png(shape.image),
        "cls": str(KINDS.index(shape.kind)).encode(),
        "txt": shape.caption.encode(),
        "attributes.json": json.dumps(shape.attributes, sort_keys=True).encode(),
        "mask.png": png(shape.mask),
    }


def png(pixels: NDArray[np.uint8]) -> bytes:
    """Pixels as a png file."""
    made = io.BytesIO()
    Image.fromarray(pixels).save(made, "png", compress_level=6)
    return made.getvalue()


STAGE = Stage("draw_shapes", __doc__, ShapesSettings, Inputs, run)

if __name__ == "__main__":
    run_stage("draw_shapes")
