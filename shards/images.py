"""Image shards: WebDataset tars of images of one size, with classes, captions, attributes and masks where known.

    {train,val}/000000.tar      KEY.png or KEY.jpg, KEY.cls, KEY.txt, KEY.attributes.json, KEY.mask.png
    {train,val}.index.jsonl     a line a sample: key, tar, each member's offset and length, source
    skipped.jsonl               a line a file that was passed over: source and reason
    manifest.json               facts: see `ImageFacts`

Shapes: H and W pixels.
"""

import io
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shards.tar import iterate_tar
from workspace.errors import UserError
from workspace.manifest import Manifest, read_manifest, write_manifest

SPLITS = ("train", "val")
SKIPPED = "skipped.jsonl"


@dataclass(frozen=True)
class ImageFacts:
    """What is true of a whole set of image shards.

    Attributes:
        kind: the source's type.
        image_size: pixels a side.
        format: png or jpg.
        classes: class names; a sample's `cls` is an index into them; None where there are no classes.
        captions: whether samples have captions.
        attributes: attribute name → its values, in order; None where there are none.
        masks: whether samples have a mask of their object.
        counts: samples of each split.
        shards: split → samples in each of its tars, in order.
    """

    kind: str
    image_size: int
    format: str
    classes: tuple[str, ...] | None
    captions: bool
    attributes: Mapping[str, tuple[str, ...]] | None
    masks: bool
    counts: Mapping[str, int]
    shards: Mapping[str, tuple[int, ...]]

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "ImageFacts":
        """From a manifest's facts."""
        attributes = value["attributes"]
        restored = {
            "classes": None if value["classes"] is None else tuple(value["classes"]),
            "attributes": None
            if attributes is None
            else {name: tuple(found) for name, found in attributes.items()},
            "shards": {split: tuple(sizes) for split, sizes in value["shards"].items()},
        }
        return cls(**{**value, **restored})


@dataclass(frozen=True)
class ImageSample:
    """One image and what is known of it.

    Attributes:
        key: unique in its split.
        image: uint8 [H, W, 3].
        cls: index of its class.
        captions: as many as the source has.
        attributes: name → value.
        mask: uint8 [H, W], 255 where the object is.
    """

    key: str
    image: NDArray[np.uint8]
    cls: int | None
    captions: tuple[str, ...]
    attributes: Mapping[str, str] | None
    mask: NDArray[np.uint8] | None


def to_float(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """uint8 [..., H, W, 3] → float32 [..., 3, H, W] in [-1, 1]."""
    return np.ascontiguousarray(np.moveaxis(image, -1, -3), np.float32) / np.float32(127.5) - np.float32(1)


def to_uint8(image: NDArray[np.floating]) -> NDArray[np.uint8]:
    """float [..., 3, H, W] in [-1, 1], clamped → uint8 [..., H, W, 3]; undoes `to_float`."""
    pixels = np.rint((np.clip(image, -1, 1) + 1) * 127.5).astype(np.uint8)
    return np.ascontiguousarray(np.moveaxis(pixels, -3, -1))


def decode(key: str, members: Mapping[str, bytes]) -> ImageSample:
    """A sample from the bytes of its members, by extension.

    Raises:
        UserError: there is no image among them.
    """
    extension = next((name for name in ("png", "jpg") if name in members), None)
    if extension is None:
        raise UserError(f"the sample {key} has no image; its members are {', '.join(members) or 'none'}")
    mask = members.get("mask.png")
    return ImageSample(
        key=key,
        image=np.asarray(Image.open(io.BytesIO(members[extension])).convert("RGB")),
        cls=int(members["cls"]) if "cls" in members else None,
        captions=tuple(members["txt"].decode().splitlines()) if "txt" in members else (),
        attributes=json.loads(members["attributes.json"]) if "attributes.json" in members else None,
        mask=None if mask is None else np.asarray(Image.open(io.BytesIO(mask))),
    )


@dataclass(frozen=True)
class IndexRow:
    """A line of the side table.

    Attributes:
        key: of the sample.
        tar: number of its tar in the split.
        members: extension → (offset, length) in bytes.
        source: where it came from, relative to the source.
    """

    key: str
    tar: int
    members: Mapping[str, tuple[int, int]]
    source: str


class ImageIndex:
    """A split as a list: samples are read by offset, in any order, from any process."""

    def __init__(self, folder: Path, split: str, shard_sizes: tuple[int, ...]) -> None:
        self._files: dict[int, int] = {}
        self.folder, self.split, self.shard_sizes = folder, split, shard_sizes
        lines = (folder / f"{split}.index.jsonl").read_text(encoding="utf-8").splitlines()
        self.rows = [IndexRow(**json.loads(line)) for line in lines]
        if len(self.rows) != sum(shard_sizes):
            raise UserError(
                f"{folder}/{split}.index.jsonl has {len(self.rows):,} lines, its manifest says {sum(shard_sizes):,} samples: "
                "run `dvc repro shard`"
            )

    def __len__(self) -> int:
        """Samples in the split."""
        return len(self.rows)

    def __getstate__(self) -> dict[str, Any]:
        """Open files stay behind when this goes to another process."""
        return self.__dict__ | {"_files": {}}

    def indices_of(self, tar: Path) -> range:
        """Which samples lie in this tar."""
        number = int(tar.stem)
        first = sum(self.shard_sizes[:number])
        return range(first, first + self.shard_sizes[number])

    def read(self, index: int) -> ImageSample:
        """The sample with this number, 0 … len - 1.

        Raises:
            UserError: its tar is missing or shorter than the index says.
        """
        row = self.rows[index]
        descriptor = self._open(row.tar)
        members = {}
        for extension, (offset, length) in row.members.items():
            members[extension] = os.pread(descriptor, length, offset)
            if len(members[extension]) != length:
                raise UserError(
                    f"{self._path(row.tar)} ends inside {row.key}.{extension}: run `dvc repro shard`"
                )
        return decode(row.key, members)

    def _path(self, tar: int) -> Path:
        return shard_path(self.folder, self.split, tar)

    def _open(self, tar: int) -> int:
        if tar not in self._files:
            try:
                self._files[tar] = os.open(self._path(tar), os.O_RDONLY)
            except FileNotFoundError as error:
                raise UserError(f"{self._path(tar)} does not exist: run `dvc repro shard`") from error
        return self._files[tar]

    def close(self) -> None:
        """Close the tars that were opened."""
        for descriptor in self._files.values():
            os.close(descriptor)
        self._files.clear()

    def __del__(self) -> None:
        """Close what is open."""
        self.close()


@dataclass(frozen=True)
class ImageShards:
    """An artifact of kind `image-shards`, opened.

    Attributes:
        folder: where it is.
        manifest: what it says of itself.
        facts: what is true of all its samples.
    """

    folder: Path
    manifest: Manifest
    facts: ImageFacts

    @classmethod
    def open(cls, folder: Path) -> "ImageShards":
        """Read and check the manifest; UserError where something is missing."""
        manifest = read_manifest(folder, "image-shards")
        try:
            facts = ImageFacts.from_json(manifest.facts)
        except (KeyError, TypeError, AttributeError) as error:
            wrong = f"the manifest of {folder} does not state the facts of image shards ({error})"
            raise UserError(f"{wrong}: run `dvc repro shard`") from error
        return cls(folder, manifest, facts)

    def paths(self, split: str) -> list[Path]:
        """The split's tars, in order."""
        return [shard_path(self.folder, split, number) for number in range(len(self.facts.shards[split]))]

    def count(self, split: str) -> int:
        """Samples of a split."""
        return self.facts.counts[split]

    def index(self, split: str) -> ImageIndex:
        """The split as a list."""
        return ImageIndex(self.folder, split, self.facts.shards[split])

    def require(self, image_size: int) -> None:
        """Check that the images have this size.

        Raises:
            UserError: they have another.
        """
        if self.facts.image_size != image_size:
            raise UserError(
                f"{self.folder} holds images of {self.facts.image_size} px, and mqvae.model.image_size is {image_size}: "
                "make them equal, or run `dvc repro shard`"
            )


def shard_path(folder: Path, split: str, number: int) -> Path:
    """Where a split's tar lies."""
    return folder / split / f"{number:06d}.tar"


def read_shard(path: Path) -> Iterator[ImageSample]:
    """Every sample of one tar, in order; UserError where it is damaged."""
    for key, members in _samples(path):
        yield decode(key, members)


def _samples(path: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    key, members = "", dict[str, bytes]()
    for name, data in iterate_tar(path):
        stem, _, extension = name.partition(".")
        if stem != key and members:
            yield key, members
            members = {}
        key = stem
        members[extension] = data
    if members:
        yield key, members


def write_image_manifest(folder: Path, facts: ImageFacts, made_from: Mapping[str, str]) -> Manifest:
    """Write the manifest, last of all."""
    return write_manifest(folder, "image-shards", asdict(facts), made_from)
