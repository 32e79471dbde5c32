"""The storage format of samples: tars of KEY.png and KEY.json. All reading and writing happens here."""

import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shards.images import decode
from workspace.errors import UserError
from workspace.exact.manifest import Manifest, atomic_path, parsed, verify_file
from workspace.exact.tar import TarWriter
from workspace.exact.tar import read_samples as grouped

REMAKE = "run `dvc repro sample`"


@dataclass(frozen=True)
class SampleFacts:
    """The facts in a samples manifest.

    Attributes:
        seed: the stage's seed.
        count: number of images.
        settings: the sampling settings.
        condition: none, class or text.
        classes: the model's class names, or null.
        image_size: pixels per side.
        cell_pixels: pixels per side of a grid cell.
        stem_pixels: pixels per side of the patch that the decoder's last layer writes.
    """

    seed: int
    count: int
    settings: Mapping[str, Any]
    condition: str
    classes: tuple[str, ...] | None
    image_size: int
    cell_pixels: int
    stem_pixels: int


@dataclass(frozen=True)
class SampleRecord:
    """A sample's .json.

    Attributes:
        index: its number i; its randomness depends only on (seed, i).
        seed: the stage's seed.
        cls: index of the requested class, or None.
        prompt: the requested caption, or None.
    """

    index: int
    seed: int | None = None
    cls: int | None = None
    prompt: str | None = None

    @property
    def key(self) -> str:
        """The name of its files, without extension."""
        return f"{self.index:08d}"


@dataclass(frozen=True)
class Sample:
    """A generated image, uint8 [H, W, 3], and its record."""

    record: SampleRecord
    image: NDArray[np.uint8]


def write_samples(path: Path, samples: Iterable[Sample]) -> None:
    """Write a tar, atomically."""
    write_encoded(path, ((sample.record, _png(sample.image)) for sample in samples))


def write_encoded(path: Path, samples: Iterable[tuple[SampleRecord, bytes]]) -> None:
    """Write a tar of records and their PNGs, atomically."""
    with atomic_path(path) as temporary, TarWriter(temporary) as tar:
        for record, png in samples:
            told = {name: value for name, value in vars(record).items() if value is not None}
            tar.add(f"{record.key}.png", png)
            tar.add(f"{record.key}.json", json.dumps(told, sort_keys=True).encode())


def _png(image: NDArray[np.uint8]) -> bytes:
    made = io.BytesIO()
    Image.fromarray(image).save(made, "png")
    return made.getvalue()


def sample_shards(folder: Path, manifest: Manifest) -> list[Path]:
    """The tars that a samples manifest names, in order.

    Raises:
        UserError: it names no tar.
    """
    found = [folder / name for name in sorted(manifest.files) if name.endswith(".tar")]
    if not found:
        raise UserError(f"{folder} holds no samples (*.tar): {REMAKE}")
    return found


def read_stored(path: Path, manifest: Manifest) -> Iterator[tuple[SampleRecord, bytes]]:
    """Yields each sample's (record, PNG) from one tar, in order, checksum verified.

    Raises:
        UserError: the tar was changed, or a picture or its .json is missing.
    """
    verify_file(path.parent, manifest, path.name)
    for key, members in grouped(path):
        if members.keys() != {"png", "json"}:
            raise UserError(f"{path} holds {key} as {', '.join(members)}; expected png, json: {REMAKE}")
        yield parsed(SampleRecord, members["json"], f"{path}: {key}.json"), members["png"]


def read_samples(path: Path, manifest: Manifest) -> Iterator[Sample]:
    """The samples of one tar, in order; UserError if one is damaged."""
    for record, content in read_stored(path, manifest):
        yield Sample(record, decode(str(record.index), {"png": content}).image)


def pngs(paths: Iterable[Path]) -> Iterator[tuple[str, bytes]]:
    """Name and content of each picture file in tars that were just written, in order."""
    return ((f"{key}.png", members["png"]) for path in paths for key, members in grouped(path))
