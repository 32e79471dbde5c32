"""Pictures for the page: reconstructed examples with their importance, and samples from all classes."""

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np
from PIL import Image

from evaluation.images import psnr
from evaluation.samples import read_stored, sample_shards
from workspace.errors import UserError
from workspace.manifest import Manifest, read_json

SHARP = 64
"""Images up to so many pixels a side are kept as PNG and drawn with hard pixels; larger ones become JPEG."""
JPEG_QUALITY = 88
DECIMALS = 4


@dataclass(frozen=True)
class Example:
    """A reconstructed image.

    Attributes:
        key: its name in the shards.
        label: its class, or "".
        grid: (h, w).
        scores: importance of the L cells in raster order.
        kept: positions of the N kept cells.
        input: the image, a data: URI.
        reconstruction: the same of what came back.
        psnr: of this image, dB.
    """

    key: str
    label: str
    grid: tuple[int, int]
    scores: list[float]
    kept: list[int]
    input: str
    reconstruction: str
    psnr: float


@dataclass(frozen=True)
class Sample:
    """A generated image: what it was asked to show, its number, and its data: URI."""

    index: int
    label: str
    image: str


def read_examples(folder: Path, manifest: Manifest, classes: Sequence[str], count: int) -> list[Example]:
    """The first `count` examples of a reconstructions artifact.

    Raises:
        UserError: an example's picture is not in the artifact.
    """
    found = []
    for value in read_json(folder / "examples.json")[:count]:
        names = [f"examples/{value['key']}.{kind}.png" for kind in ("input", "reconstruction")]
        for name in names:
            if name not in manifest.files:
                raise UserError(f"{folder / name} is not in its manifest: run `dvc repro reconstruct`")
        real, back = (_read(folder / name) for name in names)
        found.append(
            Example(
                key=value["key"],
                label=label_of(value["cls"], None, classes),
                grid=(value["grid"][0], value["grid"][1]),
                scores=[round(score, DECIMALS) for score in value["scores"]],
                kept=value["kept"],
                input=data_uri(real),
                reconstruction=data_uri(back),
                psnr=float(psnr(np.asarray(real)[None], np.asarray(back)[None])[0]),
            )
        )
    return found


def read_samples(folder: Path, manifest: Manifest, classes: Sequence[str], count: int) -> list[Sample]:
    """So many samples of a samples artifact (all, if there are fewer), as many of each class as of another.

    They come class by class, within a class by number.
    """
    numbers: dict[int, list[int]] = {}
    for stored in _stored(folder, manifest):
        numbers.setdefault(-1 if stored.cls is None else stored.cls, []).append(stored.index)
    in_turn = [index for rank in zip_longest(*numbers.values()) for index in rank if index is not None]
    chosen = set(in_turn[:count])
    found = [stored for stored in _stored(folder, manifest) if stored.index in chosen]
    found.sort(key=lambda stored: (-1 if stored.cls is None else stored.cls, stored.index))
    return [
        Sample(stored.index, label_of(stored.cls, stored.prompt, classes), data_uri(_decode(stored.png)))
        for stored in found
    ]


def label_of(cls: int | None, prompt: str | None, classes: Sequence[str]) -> str:
    """What an image was asked to show, or is of: its prompt, else its class's name, else nothing."""
    if prompt is not None:
        return prompt
    return "" if cls is None else classes[cls]


def data_uri(image: Image.Image) -> str:
    """An image as a data: URI: PNG where it is small, JPEG where it is large."""
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
    """A sample as it lies in a tar."""

    index: int
    cls: int | None
    prompt: str | None
    png: bytes


def _stored(folder: Path, manifest: Manifest) -> Iterator[_Stored]:
    """Samples in the order of the tars; pictures are not decoded."""
    for path in sample_shards(folder, manifest):
        for told, png in read_stored(path, manifest):
            yield _Stored(told.index, told.cls, told.prompt, png)


def _read(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


def _decode(content: bytes) -> Image.Image:
    with Image.open(io.BytesIO(content)) as image:
        return image.convert("RGB")
