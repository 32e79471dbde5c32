"""Token blocks in a tar: codes, positions as bitmasks, classes, captions, keys and source names of B images.

    BLOCK.codes.npy          uint16 [B, N]          in raster order of their positions
    BLOCK.offsets.npy        uint32 [B + 1]         where images have different numbers of codes: codes are [ΣN] then, those of
                                                    image b from offset b up to offset b + 1; nothing is padded
    BLOCK.kept.npy           uint8 [B, ceil(L/8)]   bit l (big-endian) is set where cell l was kept; pad bits 0
    BLOCK.cls.npy            uint16 [B]             where the images have classes
    BLOCK.text.npy           uint16 [B, C, N_c]     captions in BPE codes, pad 0, and
    BLOCK.caption_count.npy  uint8 [B]              how many of the C are captions
    BLOCK.keys.json          B strings, unique in a split; augmented copies are KEY+1, …
    BLOCK.sources.json       B strings: each image's path relative to its source; "" if unknown

The bitmask encodes the positions, which ascend because codes are stored in raster order.
Either all blocks of a set have offsets or none has.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workspace.errors import UserError
from workspace.exact.manifest import parsed
from workspace.exact.mapped import read_header
from workspace.exact.tar import read_samples


@dataclass(frozen=True)
class TokenBlock:
    """A block of images; shapes and dtypes as in the module's docstring.

    Attributes:
        sources: None in older sets, or if the codes were packed without source names.
        offsets: whole numbers [B + 1], from 0 to the number of codes, where images have different numbers of them; `codes` is
            [ΣN] then. None where all have N.
    """

    keys: tuple[str, ...]
    codes: NDArray[np.uint16]
    kept: NDArray[np.uint8]
    cls: NDArray[np.uint16] | None
    text: NDArray[np.uint16] | None
    caption_count: NDArray[np.uint8] | None
    sources: tuple[str, ...] | None = field(default=None, kw_only=True)
    offsets: NDArray[np.integer] | None = field(default=None, kw_only=True)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Codes of each image, [B]."""
        if self.offsets is None:
            return np.full(len(self.keys), self.codes.shape[1], np.int64)
        return self.offsets[1:].astype(np.int64) - self.offsets[:-1].astype(np.int64)

    def codes_of(self, image: int) -> NDArray[np.uint16]:
        """The codes of one image, [N]."""
        if self.offsets is None:
            return self.codes[image]
        return self.codes[self.offsets[image] : self.offsets[image + 1]]

    def codes_at(self, rows: NDArray[np.integer]) -> tuple[NDArray[np.uint16], NDArray[np.int64] | None]:
        """The codes and offsets of some images, in the order of `rows`."""
        if self.offsets is None:
            return self.codes[rows], None
        return picked(self.codes, self.offsets.astype(np.int64), rows)


def offsets_of(lengths: NDArray[np.integer]) -> NDArray[np.int64]:
    """The start of each image's codes, and the end of the last one's: [B] → [B + 1]."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])


def picked(
    codes: NDArray[np.uint16], offsets: NDArray[np.int64], rows: NDArray[np.integer]
) -> tuple[NDArray[np.uint16], NDArray[np.int64]]:
    """The codes of some images, [ΣN of `rows`] in their order, and their offsets, of all codes and offsets."""
    lengths = offsets[rows + 1] - offsets[rows]
    ends = offsets_of(lengths)
    return codes[np.repeat(offsets[rows] - ends[:-1], lengths) + np.arange(ends[-1])], ends


def joined_offsets(blocks: Sequence[TokenBlock]) -> NDArray[np.int64] | None:
    """The offsets of blocks one after the other; None where all images have N codes."""
    if not blocks or blocks[0].offsets is None:
        return None
    return offsets_of(np.concatenate([block.lengths for block in blocks]))


ARRAYS = {
    "codes": np.uint16,
    "kept": np.uint8,
    "cls": np.uint16,
    "text": np.uint16,
    "caption_count": np.uint8,
}
OFFSETS = "offsets"


def read_token_shard(path: Path) -> Iterator[TokenBlock]:
    """The blocks of one tar, in order, not yet checked against the facts.

    Raises:
        UserError: a damaged tar, a block without codes, kept cells or keys, arrays of unequal length, or offsets that do not
            part the codes among the images.
    """
    for name, members in read_samples(path):
        yield block_of(path, name, members)


def block_of(path: Path, name: str, members: Mapping[str, bytes | memoryview]) -> TokenBlock:
    """A block from its members by extension; its arrays are views of them.

    Raises:
        UserError: one is missing or damaged, or they are of unequal length.
    """
    for needed in ("codes.npy", "kept.npy", "keys.json"):
        if needed not in members:
            raise UserError(f"{path}: the block {name} lacks {needed}")
    keys = _names(members["keys.json"], f"{path}: {name}.keys.json")
    arrays = {
        member: _array(members[f"{member}.npy"], np.dtype(dtype), f"{path}: {name}.{member}.npy")
        for member, dtype in ARRAYS.items()
        if f"{member}.npy" in members
    }
    offsets = _offsets(members, arrays["codes"], len(keys), f"{path}: {name}.{OFFSETS}.npy")
    for member, array in arrays.items():
        if member == "codes" and offsets is not None:
            continue
        if array.shape[:1] != (len(keys),):
            raise UserError(f"{path}: {name}.{member}.npy has shape {array.shape}; expected {len(keys)} rows")
    sources = None
    if "sources.json" in members:
        sources = _names(members["sources.json"], f"{path}: {name}.sources.json")
        if len(sources) != len(keys):
            raise UserError(f"{path}: {name}.sources.json has {len(sources)} names; expected {len(keys)}")
    found: dict[str, Any] = {member: arrays.get(member) for member in ARRAYS}
    return TokenBlock(keys, **found, sources=sources, offsets=offsets)


def _offsets(
    members: Mapping[str, bytes | memoryview], codes: NDArray[Any], images: int, where: str
) -> NDArray[np.uint32] | None:
    if f"{OFFSETS}.npy" not in members:
        return None
    offsets = _array(members[f"{OFFSETS}.npy"], np.dtype(np.uint32), where)
    if codes.ndim != 1 or offsets.shape != (images + 1,):
        raise UserError(
            f"{where} has shape {offsets.shape} and the codes {codes.shape}; expected {images + 1} offsets into one row of codes"
        )
    if offsets[0] != 0 or offsets[-1] != len(codes) or (np.diff(offsets.astype(np.int64)) < 1).any():
        raise UserError(f"{where} does not ascend from 0 to {len(codes):,}, the number of codes")
    return offsets


def _names(data: bytes | memoryview, where: str) -> tuple[str, ...]:
    return tuple(parsed(list[str], bytes(data), where))


def _array(data: bytes | memoryview, dtype: np.dtype[Any], where: str) -> NDArray[Any]:
    """The array of an npy file, read-only and not copied; its size is checked before anything is allocated.

    Raises:
        UserError: not an npy file, another dtype or memory order, or a number of bytes that does not fit its shape.
    """
    shape, found, start = read_header(data, where)
    if found != dtype:
        raise UserError(f"{where} is {found}, expected {dtype}")
    count = math.prod(shape)
    if len(data) - start != count * dtype.itemsize:
        raise UserError(f"{where} has {len(data) - start:,} bytes of values, not those of shape {shape}")
    return np.frombuffer(data, dtype, count, start).reshape(shape)


def unpack_positions(kept: NDArray[np.uint8], num_positions: int, num_kept: int) -> NDArray[np.int64]:
    """Bitmasks [B, ceil(L/8)] → positions [B, N], ascending.

    Raises:
        ValueError: a row has not exactly N bits set.
    """
    kept_BL = np.unpackbits(kept, axis=1, count=num_positions, bitorder="big")
    found = kept_BL.sum(axis=1, dtype=np.int64)
    if (found != num_kept).any():
        row = int(np.argmax(found != num_kept))
        raise ValueError(f"row {row} of the bitmask has {found[row]} bits set, expected N = {num_kept}")
    return np.nonzero(kept_BL)[1].reshape(len(kept), num_kept)


def flat_positions(kept: NDArray[np.uint8], num_positions: int) -> NDArray[np.int64]:
    """Bitmasks [B, ceil(L/8)] → the positions of all images, ascending in each, one image after the other: [ΣN]."""
    return np.nonzero(np.unpackbits(kept, axis=1, count=num_positions, bitorder="big"))[1]
