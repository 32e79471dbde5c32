"""A split of tokens that is read in place: its tars are mapped, and a row is copied only when a batch asks for it.

A member of a tar begins at a multiple of 512 bytes and the values of an npy file at a multiple of 64 in it, so the arrays of a
block are in the tar as they are in memory. Every tar is checked when it is mapped, each byte by the manifest's SHA-256 and
each block by the facts; the last ones stay mapped.
"""

import hashlib
import mmap
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.tokens.blocks import ARRAYS, TokenBlock, block_of, offsets_of, picked
from workspace.errors import UserError
from workspace.exact.manifest import Manifest
from workspace.exact.tar import BROKEN, plain_members

MOST_MAPPED = 32
"""Tars that stay mapped: a batch may lie across two groups of 16 (`training.stackformer.batches`)."""


@dataclass(frozen=True)
class TokenRows:
    """Some images of a split: arrays as in `shards.tokens.blocks`, B rows each; codes [ΣN] where lengths differ."""

    codes: NDArray[np.uint16]
    kept: NDArray[np.uint8]
    cls: NDArray[np.uint16] | None
    text: NDArray[np.uint16] | None
    caption_count: NDArray[np.uint8] | None


def row_numbers(rows_B: Any, count: int) -> NDArray[np.int64]:
    """Numbers of images as an array.

    Raises:
        IndexError: one is not in 0 … count - 1, or not a whole number.
    """
    found = np.asarray(rows_B)
    if found.ndim != 1 or (len(found) and found.dtype.kind not in "iu"):
        raise IndexError(f"rows are {found.dtype} {list(found.shape)}, expected numbers of images [B]")
    if len(found) and not 0 <= found.min() <= found.max() < count:
        raise IndexError(f"rows {found.min()} … {found.max()}; expected 0 … {count - 1}")
    return found.astype(np.int64)


@dataclass(frozen=True)
class _MappedTar:
    """The blocks of a tar, views of the mapped file, and the row at which each begins."""

    blocks: tuple[TokenBlock, ...]
    starts: NDArray[np.int64]


@dataclass
class MappedTokens:
    """A split in place.

    Attributes:
        folder: of the artifact.
        manifest: what it says of itself.
        check: raises a UserError where a block does not fit the facts; takes the block, and `where` it is.
        split: train or val.
        shard_sizes: images in each tar.
    """

    folder: Path
    manifest: Manifest
    check: Any
    split: str
    shard_sizes: tuple[int, ...]
    _tars: dict[int, _MappedTar] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self._starts = np.concatenate([[0], np.cumsum(np.asarray(self.shard_sizes, np.int64))])

    def __len__(self) -> int:
        """Images."""
        return int(self._starts[-1])

    def rows(self, rows_B: NDArray[np.int64]) -> TokenRows:
        """The images with these numbers, 0 … len - 1, copied.

        Raises:
            IndexError: there is no such number.
            UserError: a tar that is missing, was changed or does not fit the facts.
        """
        rows_B = row_numbers(rows_B, len(self))
        if not len(rows_B):
            return self._none()
        tars_B = np.searchsorted(self._starts, rows_B, "right") - 1
        order_B = np.argsort(tars_B, kind="stable")
        parts = []
        for tar, group in groupby(order_B.tolist(), key=lambda place: int(tars_B[place])):
            inside = rows_B[list(group)] - self._starts[tar]
            parts += _taken(self._tar(tar), inside)
        back_B = np.empty_like(order_B)
        back_B[order_B] = np.arange(len(order_B))
        return TokenRows(**{name: _gathered(parts, name, back_B) for name in ARRAYS})  # type: ignore[arg-type]

    def _none(self) -> TokenRows:
        """No image, in arrays of the dtypes and the other sizes of some."""
        first = self.rows(np.zeros(1, np.int64))
        arrays: dict[str, Any] = {name: getattr(first, name) for name in ARRAYS}
        return TokenRows(**{name: None if array is None else array[:0] for name, array in arrays.items()})  # type: ignore[arg-type]

    def __getstate__(self) -> dict[str, Any]:
        """Without the mapped tars, so that a spawned worker can take it: it maps its own."""
        return self.__dict__ | {"_tars": {}}

    def lengths_of(self, rows_B: NDArray[np.int64]) -> NDArray[np.int64]:
        """Numbers of codes of the images with these numbers, [B]; UserError as `rows`."""
        return np.bitwise_count(self.rows(rows_B).kept).sum(axis=1, dtype=np.int64)

    def _tar(self, number: int) -> _MappedTar:
        found = self._tars.pop(number, None) or self._mapped(number)
        self._tars[number] = found
        while len(self._tars) > MOST_MAPPED:
            del self._tars[next(iter(self._tars))]
        return found

    def _mapped(self, number: int) -> _MappedTar:
        name = f"{self.split}/{number:06d}.tar"
        path, entry = self.folder / name, self.manifest.files.get(name)
        try:
            with path.open("rb") as file:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise UserError(f"{path} is missing or empty: {error}: run `dvc repro tokenize`") from error
        if entry is None or hashlib.sha256(mapped).hexdigest() != entry.sha256:
            raise UserError(
                f"{path} was changed: its SHA-256 is not its manifest's: run `dvc repro tokenize`"
            )
        blocks = tuple(_blocks(path, mapped))
        for place, block in enumerate(blocks):
            self.check(block, where=f"{path}, block {place}")
        sizes = [len(block.keys) for block in blocks]
        if sum(sizes) != self.shard_sizes[number]:
            stated = f"its manifest says {self.shard_sizes[number]:,}"
            raise UserError(f"{path} holds {sum(sizes):,} images, {stated}: run `dvc repro tokenize`")
        blocks = tuple(replace(block, keys=(), sources=None) for block in blocks)  # training needs no names
        return _MappedTar(blocks, np.concatenate([[0], np.cumsum(sizes)]))


def _blocks(path: Path, mapped: mmap.mmap) -> list[TokenBlock]:
    """The blocks of a mapped tar, without a copy of their arrays."""
    view = memoryview(mapped)
    try:
        with tarfile.open(fileobj=mapped, mode="r:") as tar:
            members = [
                (info.name.partition("."), view[info.offset_data : info.offset_data + info.size])
                for info in plain_members(tar, path)
            ]
    except BROKEN as error:
        raise UserError(f"{path} is damaged: {error}: run `dvc repro tokenize`") from error
    found = []
    for name, group in groupby(members, key=lambda member: member[0][0]):
        named: Mapping[str, memoryview] = {extension: data for (_, _, extension), data in group}
        found.append(block_of(path, name, named))
    return found


def _taken(tar: _MappedTar, rows_B: NDArray[np.int64]) -> list[dict[str, Any]]:
    """Rows of a tar, in the order asked for, as parts that lie in one block each."""
    blocks_B = np.searchsorted(tar.starts, rows_B, "right") - 1
    parts = []
    for number, group in groupby(
        zip(blocks_B.tolist(), rows_B.tolist(), strict=True), key=lambda pair: pair[0]
    ):
        inside, block = np.array([row - int(tar.starts[number]) for _, row in group]), tar.blocks[number]
        arrays = {name: getattr(block, name) for name in ARRAYS if name != "codes"}
        part = {name: None if array is None else array[inside] for name, array in arrays.items()}
        codes, offsets = block.codes_at(inside)
        parts.append(part | {"codes": codes, "offsets": offsets})
    return parts


def _gathered(parts: list[dict[str, Any]], name: str, back_B: NDArray[np.int64]) -> NDArray[Any] | None:
    """One array of all parts, its rows where they were asked for; captions are padded to the most that an image has."""
    arrays = [part[name] for part in parts]
    if arrays[0] is None:
        return None
    if name == "text":
        most = max(array.shape[1] for array in arrays)
        arrays = [np.pad(array, ((0, 0), (0, most - array.shape[1]), (0, 0))) for array in arrays]
    if name == "codes" and parts[0]["offsets"] is not None:
        lengths = np.concatenate([np.diff(part["offsets"]) for part in parts])
        return picked(np.concatenate(arrays), offsets_of(lengths), back_B)[0]
    found: NDArray[Any] = np.concatenate(arrays)[back_B]
    return found
