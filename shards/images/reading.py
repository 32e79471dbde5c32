"""Image shards: WebDataset tars of images of one size, with classes, captions, attributes and masks where known.

    {train,val}/000000.tar      KEY.png or KEY.jpg, KEY.cls, KEY.txt, KEY.attributes.json, KEY.mask.png
    {train,val}.index.npy, {train,val}.tars.npy, {train,val}.sources.txt    where each sample's members lie, and what they were
                                made from: see `shards.images.index`
    skipped.jsonl               one line per skipped file: source and reason
    manifest.json               facts: see `ImageFacts`

Shapes: H and W pixels.
"""

import operator
import os
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, overload

import numpy as np
from numpy.typing import NDArray

from shards.images.home import Home
from shards.images.index import REMAKE, IndexRow, IndexTable, index_files
from shards.images.opening import NO_IMAGE, opened
from workspace.errors import UserError
from workspace.exact.manifest import Manifest, parsed, read_manifest, validated, verify_file
from workspace.exact.splits import SPLITS, known_split
from workspace.exact.tar import read_samples
from workspace.stores.cache import USUAL, Cache

SKIPPED = "skipped.jsonl"
MOST_CLASSES = 1 << 16
"""Class numbers are stored as uint16."""
MOST_OPEN = 64
"""Tars that an index keeps open: twice what a group of the training order mixes, far below what a process may open."""
MOST_FETCHED = 24
"""The same of fetched tars, which stay in the cache as long: a group of the training order and half of the next."""


@dataclass(frozen=True)
class ImageFacts:
    """Facts about a whole set of image shards.

    Attributes:
        kind: the source's type.
        image_size: pixels per side.
        format: png or jpg.
        classes: class names; a sample's `cls` is an index into them; None without classes.
        captions: whether samples have captions.
        attributes: attribute name → its values, in order; None without attributes.
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

    def __post_init__(self) -> None:
        if self.image_size < 1 or len(self.classes or ()) > MOST_CLASSES:
            raise ValueError(f"image_size {self.image_size}, {len(self.classes or ())} classes: out of range")

    def check_counts(self) -> None:
        """UserError where the tars do not add up to the counts."""
        for split in SPLITS:
            sizes, count = self.shards.get(split, ()), self.counts.get(split, 0)
            if min(sizes, default=0) < 0 or sum(sizes) != count:
                raise UserError(f"the tars of {split} hold {sum(sizes)} images, and counts says {count}")

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "ImageFacts":
        """From a manifest's facts; UserError where one is missing or of another type."""
        return validated(cls, value, "the facts of image shards")


@dataclass(frozen=True)
class ImageSample:
    """One image and its metadata.

    Attributes:
        key: unique in its split.
        image: uint8 [H, W, 3].
        cls: index of its class.
        captions: all that the source has.
        attributes: name → value.
        mask: uint8 [H, W], 255 where the object is.
    """

    key: str
    image: NDArray[np.uint8]
    cls: int | None
    captions: tuple[str, ...]
    attributes: Mapping[str, str] | None
    mask: NDArray[np.uint8] | None


Encoded = tuple[str, Mapping[str, bytes]]
"""A sample's key, and its members' bytes by extension."""


def decode(key: str, members: Mapping[str, bytes]) -> ImageSample:
    """A sample from the bytes of its members, by extension.

    Raises:
        UserError: there is no image among them, or a member is damaged.
    """
    extension = next((name for name in ("png", "jpg") if name in members), None)
    if extension is None:
        raise UserError(f"the sample {key} has no image; its members are {', '.join(members) or 'none'}")
    mask = members.get("mask.png")
    try:
        return ImageSample(
            key=key,
            image=np.asarray(opened(members[extension]).convert("RGB")),
            cls=int(members["cls"]) if "cls" in members else None,
            captions=tuple(members["txt"].decode().splitlines()) if "txt" in members else (),
            attributes=_attributes(key, members["attributes.json"]) if "attributes.json" in members else None,
            mask=None if mask is None else np.asarray(opened(mask)),
        )
    except NO_IMAGE as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"the sample {key} is damaged ({type(error).__name__}: {error}): {REMAKE}") from error


def _attributes(key: str, data: bytes) -> dict[str, str]:
    return parsed(dict[str, str], data, f"{key}.attributes.json")


class _OpenTar:
    """A tar's descriptor; closed when the last reader lets go of it."""

    def __init__(self, file: BinaryIO, remake: str) -> None:
        self.path, self.remake, self.file, self.descriptor = file.name, remake, file, file.fileno()

    def __del__(self) -> None:
        """Close it."""
        self.file.close()

    def member(self, name: str, offset: int, length: int, crc: int) -> bytes:
        """A member's bytes; UserError where the tar ends before them, or they are not those that were written."""
        if offset + length > os.fstat(self.descriptor).st_size:
            raise UserError(f"{self.path} ends inside {name}: {self.remake}")
        data = os.pread(self.descriptor, length, offset)
        if zlib.crc32(data) != crc:
            raise UserError(f"{self.path}: {name} was changed: {self.remake}")
        return data


class ImageIndex(Sequence[ImageSample]):
    """A split as a sequence: samples are read by offset, in any order, from any process or thread.

    It is a map-style data set for torch's DataLoader too; `collate_fn` says what of a sample it wants.

    Its memory does not grow with the number of samples: the index is mapped, and only the last tars stay open.
    """

    def __init__(self, home: Home, split: str, shard_sizes: tuple[int, ...]) -> None:
        self.home, self.split, self.shard_sizes = home, split, shard_sizes
        self.table = IndexTable(home.folder, split, shard_sizes)
        self._open: dict[int, _OpenTar] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Samples in the split."""
        return len(self.table)

    def __reduce__(self) -> tuple[type["ImageIndex"], tuple[Home, str, tuple[int, ...]]]:
        """Opened again where it arrives."""
        return ImageIndex, (self.home, self.split, self.shard_sizes)

    @overload
    def __getitem__(self, index: int) -> ImageSample: ...
    @overload
    def __getitem__(self, index: slice) -> list[ImageSample]: ...
    def __getitem__(self, index: int | slice) -> ImageSample | list[ImageSample]:
        """As of a list: `read`, counted from the end if negative, several by a slice."""
        if isinstance(index, slice):
            return [self.read(number) for number in range(*index.indices(len(self)))]
        number = operator.index(index)
        return self.read(number + len(self) if number < 0 else number)

    def indices_of(self, tar: Path) -> range:
        """Which samples lie in this tar."""
        return self.table.range_of(int(tar.stem))

    def rows(self) -> Iterator[IndexRow]:
        """What the index says of each sample, in order."""
        for tar in range(len(self.shard_sizes)):
            yield from self.table.rows_of(tar)

    def read(self, index: int) -> ImageSample:
        """The sample with this number, 0 … len - 1.

        Raises:
            IndexError: there is no such number.
            UserError: its tar is missing, shorter than the index says, or holds other bytes than were written.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {self.split}, which has 0 … {len(self) - 1}")
        number = self.table.tar_of(index)
        key, places = self.table.at(index, number)
        tar = self._tar(number)
        members = {name: tar.member(f"{key}.{name}", *place) for name, place in places.items()}
        return decode(key, members)

    def _tar(self, number: int) -> _OpenTar:
        """A tar, opened; the one that was not asked for longest is let go of, with its part of the index."""
        with self._lock:
            found = self._open.pop(number, None) or self._opened(number)
            self._open[number] = found
            if len(self._open) > (MOST_FETCHED if self.home.is_far else MOST_OPEN):
                oldest = next(iter(self._open))
                del self._open[oldest]
                self.table.forget(oldest)
        return found

    def _opened(self, number: int) -> _OpenTar:
        return _OpenTar(self.home.opened(tar_name(self.split, number)), self.home.remake)

    def close(self) -> None:
        """Close the tars that were opened."""
        with self._lock:
            self._open.clear()


@dataclass(frozen=True)
class ImageShards:
    """An artifact of kind `image-shards`, opened.

    Attributes:
        folder: where it is.
        manifest: its manifest.
        facts: what holds for all its samples.
        cache: where tars of a home at a URL are kept.
    """

    folder: Path
    manifest: Manifest
    facts: ImageFacts
    cache: Cache = USUAL

    @classmethod
    def open(cls, folder: str | Path, cache: Cache = USUAL) -> "ImageShards":
        """Read and check the manifest and the indices; UserError where something is missing or was changed.

        The tars and a large index are checked where they are read: tars whole by `samples`, sample by sample by an index.
        """
        folder = Path(folder).expanduser()
        manifest = read_manifest(folder, "image-shards")
        try:
            facts = ImageFacts.from_json(manifest.facts)
            facts.check_counts()
        except UserError as error:
            raise UserError(f"the manifest of {folder} is wrong about {error}: {REMAKE}") from error
        lacking = {name for split in SPLITS for name in index_files(split)} - manifest.files.keys()
        if lacking:
            raise UserError(
                f"{folder} has no {min(lacking)}: an earlier version made it, with an index of lines: {REMAKE}"
            )
        return cls(folder, manifest, facts, cache)

    @cached_property
    def home(self) -> Home:
        """Where the tars are."""
        return Home.of(self.folder, self.manifest, self.cache)

    def paths(self, split: str) -> list[Path]:
        """The split's tars, in order, as if beside the manifest: `tar` says where one is."""
        return [shard_path(self.folder, split, number) for number in range(len(self._sizes(split)))]

    def count(self, split: str) -> int:
        """Samples of a split."""
        return sum(self._sizes(split))

    def index(self, split: str) -> ImageIndex:
        """The split as a list; UserError unless it is train or val."""
        return ImageIndex(self.home, split, self._sizes(split))

    def _sizes(self, split: str) -> tuple[int, ...]:
        """Samples in each tar of a split."""
        return self.facts.shards[known_split(split)]

    def samples(self, path: Path) -> Iterator[ImageSample]:
        """Every sample of one of its tars, in order, its checksum verified.

        Raises:
            UserError: the tar was changed since it was written.
        """
        for encoded in self.encoded(path):
            yield decode(*encoded)

    def encoded(self, path: Path) -> Iterator[Encoded]:
        """The same samples, each as `decode` takes it."""
        yield from read_samples(self.verified(path))

    def tar(self, path: Path) -> Path:
        """The file of one of its tars; UserError if it is not there."""
        return self.home.tar(f"{path.parent.name}/{path.name}")

    def verified(self, path: Path) -> Path:
        """The same file, its SHA-256 compared with the manifest's.

        Raises:
            UserError: the tar was changed since it was written.
        """
        name, there = f"{path.parent.name}/{path.name}", self.tar(path)
        verify_file(self.folder, self.manifest, name, there)
        return there

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
    """The path of a split's tar."""
    return folder / tar_name(split, number)


def tar_name(split: str, number: int) -> str:
    """A tar's name in the manifest."""
    return f"{split}/{number:06d}.tar"


def read_shard(path: Path) -> Iterator[ImageSample]:
    """Every sample of one tar, in order; UserError where it is damaged."""
    for key, members in read_samples(path):
        yield decode(key, members)
