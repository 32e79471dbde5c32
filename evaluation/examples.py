"""The storage format of reconstructed examples: examples.json and examples/KEY.NAME.png. Only this module writes and reads it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shards.images import ImageSample
from workspace.exact.manifest import Manifest, parsed, verify_file, write_json

NAME, FOLDER, INPUT, RECONSTRUCTION = "examples.json", "examples", "input", "reconstruction"


@dataclass(frozen=True)
class ReconstructionFacts:
    """The facts in a reconstructions manifest: number of scored images, and their split."""

    images: int
    split: str


@dataclass(frozen=True)
class Example:
    """One entry of examples.json.

    Attributes:
        key: its key in the shards.
        cls: index of its class, or null.
        grid: (h, w).
        scores: importance of the L cells in raster order.
        kept: the N kept positions, ascending.
        codes: their codes.
        order: all L cells, from the most to the least important.
        counts: each number n of cells for which KEY.from-n.png shows the reconstruction from the first n.
    """

    key: str
    cls: int | None
    grid: tuple[int, int]
    scores: list[float]
    kept: list[int]
    codes: list[int]
    order: list[int]
    counts: list[int]

    @property
    def made(self) -> dict[int, str]:
        """Number of cells → the name of the picture reconstructed from them, fewest cells first."""
        names = {len(self.kept): RECONSTRUCTION} | {count: from_cells(count) for count in self.counts}
        return dict(sorted(names.items()))


def from_cells(count: int) -> str:
    """The name of pictures reconstructed from this many cells."""
    return f"from-{count}"


def examples_of(
    samples: Sequence[ImageSample],
    grid: tuple[int, int],
    columns: Sequence[NDArray[np.floating] | NDArray[np.int64]],
    counts: list[int],
) -> list[Example]:
    """Entries of B images, in their order.

    Args:
        samples: the images.
        grid: (h, w).
        columns: scores [B, L], kept positions [B, N], codes [B, N], order [B, L].
        counts: see `Example`.
    """
    rows = zip(samples, *(column.tolist() for column in columns), strict=True)
    return [
        Example(sample.key, sample.cls, grid, scores, kept, codes, order, counts)
        for sample, scores, kept, codes, order in rows
    ]


def write_examples(
    folder: Path, examples: Sequence[Example], pictures: Mapping[str, NDArray[np.uint8]]
) -> None:
    """Write all examples.

    Args:
        folder: the artifact's folder.
        examples: B examples.
        pictures: name → that picture of each example, uint8 [B, H, W, 3].
    """
    (folder / FOLDER).mkdir(exist_ok=True)
    for row, example in enumerate(examples):
        for name, images in pictures.items():
            Image.fromarray(images[row]).save(folder / FOLDER / f"{example.key}.{name}.png")
    write_json(folder / NAME, [asdict(example) for example in examples])


def read_examples(folder: Path) -> list[Example]:
    """The examples of a reconstructions artifact whose manifest has been checked.

    Raises:
        UserError: examples.json does not have the format of `write_examples`.
    """
    return parsed(list[Example], (folder / NAME).read_bytes(), str(folder / NAME))


def read_picture(folder: Path, manifest: Manifest, example: Example, name: str) -> Image.Image:
    """A picture of an example, in RGB.

    Raises:
        UserError: it is not in the artifact, or was changed.
    """
    path = f"{FOLDER}/{example.key}.{name}.png"
    verify_file(folder, manifest, path)
    with Image.open(folder / path) as image:
        return image.convert("RGB")
