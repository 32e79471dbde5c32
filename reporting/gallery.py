"""Pictures for the page: reconstructed examples with their importance, and samples from all classes."""

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np
from PIL import Image

from evaluation import examples
from evaluation.images import psnr
from shards.samples import read_stored, sample_shards
from workspace.exact.manifest import Manifest

SHARP = 64
"""Images up to this many pixels per side stay PNG and are drawn with hard pixels; larger ones become JPEG."""
JPEG_QUALITY = 86
SIDE, THUMBNAIL = 192, 128
"""Most pixels per side of pictures in the viewer, on the wall, and of neighbours, to keep the page small."""
DECIMALS = 4


@dataclass(frozen=True)
class Made:
    """A reconstruction: number of cells, a data: URI, dB against the input."""

    count: int
    image: str
    psnr: float


@dataclass(frozen=True)
class Example:
    """A reconstructed image.

    Attributes:
        key: its name in the shards.
        label: its class, or "".
        grid: (h, w).
        scores: importance of the L cells in raster order.
        kept: positions of the N kept cells, ascending.
        codes: their codes.
        order: all L cells, from the most to the least important.
        input: the image, a data: URI.
        made: reconstructions from N and from other numbers of cells, by number.
    """

    key: str
    label: str
    grid: tuple[int, int]
    scores: list[float]
    kept: list[int]
    codes: list[int]
    order: list[int]
    input: str
    made: list[Made]


@dataclass(frozen=True)
class Sample:
    """A generated image.

    Attributes:
        row: its index among all samples, in the order of the tars.
        index: its number.
        label: its requested class or prompt, or "".
        image: a data: URI.
    """

    row: int
    index: int
    label: str
    image: str


def read_examples(folder: Path, manifest: Manifest, classes: Sequence[str], count: int) -> list[Example]:
    """The first `count` examples of a reconstructions artifact.

    Raises:
        UserError: an example's picture is not in the artifact.
    """
    return [
        _example(folder, manifest, stored, label_of(stored.cls, None, classes))
        for stored in examples.read_examples(folder)[:count]
    ]


def _example(folder: Path, manifest: Manifest, stored: examples.Example, label: str) -> Example:
    real = examples.read_picture(folder, manifest, stored, examples.INPUT)
    made = []
    for count, name in stored.made.items():
        back = examples.read_picture(folder, manifest, stored, name)
        decibels = float(psnr(np.asarray(real)[None], np.asarray(back)[None])[0])
        made.append(Made(count, data_uri(back), round(decibels, 2)))
    return Example(
        key=stored.key,
        label=label,
        grid=stored.grid,
        scores=[round(score, DECIMALS) for score in stored.scores],
        kept=stored.kept,
        codes=stored.codes,
        order=stored.order,
        input=data_uri(real),
        made=made,
    )


def choose_samples(folder: Path, manifest: Manifest, count: int) -> list[int]:
    """Rows of `count` samples (or all, if there are fewer), equally many per class, class by class."""
    classes: dict[int, list[int]] = {}
    for stored in _stored(folder, manifest):
        classes.setdefault(-1 if stored.cls is None else stored.cls, []).append(stored.row)
    in_turn = [row for rank in zip_longest(*classes.values()) for row in rank if row is not None]
    chosen = set(in_turn[:count])
    return [row for cls in sorted(classes) for row in classes[cls] if row in chosen]


def read_samples(
    folder: Path, manifest: Manifest, classes: Sequence[str], rows: Sequence[int]
) -> list[Sample]:
    """The samples of these rows, in their order."""
    wanted = set(rows)
    found = {
        stored.row: Sample(
            stored.row,
            stored.index,
            label_of(stored.cls, stored.prompt, classes),
            data_uri(_decode(stored.png)),
        )
        for stored in _stored(folder, manifest)
        if stored.row in wanted
    }
    return [found[row] for row in rows]


def label_of(cls: int | None, prompt: str | None, classes: Sequence[str]) -> str:
    """An image's label: its prompt, else its class's name, else ""."""
    if prompt is not None:
        return prompt
    return "" if cls is None else classes[cls]


def data_uri(image: Image.Image, side: int = SIDE) -> str:
    """A square image as a data: URI, reduced to at most `side` pixels: PNG if it is small, else JPEG."""
    if max(image.size) > side:
        image = image.resize((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    if max(image.size) <= SHARP:
        image.save(buffer, "PNG", optimize=True)
        kind = "png"
    else:
        image.save(buffer, "JPEG", quality=JPEG_QUALITY)
        kind = "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


@dataclass(frozen=True)
class _Stored:
    """A sample as stored in a tar; `row` counts over all tars."""

    row: int
    index: int
    cls: int | None
    prompt: str | None
    png: bytes


def _stored(folder: Path, manifest: Manifest) -> Iterator[_Stored]:
    """Samples in the order of the tars; pictures are not decoded."""
    row = 0
    for path in sample_shards(folder, manifest):
        for told, png in read_stored(path, manifest):
            yield _Stored(row, told.index, told.cls, told.prompt, png)
            row += 1


def _decode(content: bytes) -> Image.Image:
    with Image.open(io.BytesIO(content)) as image:
        return image.convert("RGB")
