"""Token blocks in a tar: codes, positions as bitmasks, classes, captions, keys and source names of B images.

    BLOCK.codes.npy          uint16 [B, N]          in raster order of their positions
    BLOCK.kept.npy           uint8 [B, ceil(L/8)]   bit l (big-endian) is set where cell l was kept; pad bits 0
    BLOCK.cls.npy            uint16 [B]             where the images have classes
    BLOCK.text.npy           uint16 [B, C, N_c]     captions in BPE codes, pad 0, and
    BLOCK.caption_count.npy  uint8 [B]              how many of the C are captions
    BLOCK.keys.json          B strings, unique in a split; augmented copies are KEY+1, …
    BLOCK.sources.json       B strings: each image's path relative to its source; "" if unknown

The bitmask encodes the positions, which ascend because codes are stored in raster order.
"""

import io
import math
import tokenize
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workspace.errors import UserError
from workspace.exact.manifest import parsed
from workspace.exact.tar import read_samples


@dataclass(frozen=True)
class TokenBlock:
    """A block of images; shapes and dtypes as in the module's docstring.

    Attributes:
        sources: None in older sets, or if the codes were packed without source names.
    """

    keys: tuple[str, ...]
    codes: NDArray[np.uint16]
    kept: NDArray[np.uint8]
    cls: NDArray[np.uint16] | None
    text: NDArray[np.uint16] | None
    caption_count: NDArray[np.uint8] | None
    sources: tuple[str, ...] | None = field(default=None, kw_only=True)


ARRAYS = {
    "codes": np.uint16,
    "kept": np.uint8,
    "cls": np.uint16,
    "text": np.uint16,
    "caption_count": np.uint8,
}
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
NO_HEADER = (ValueError, TypeError, SyntaxError, EOFError, LookupError, tokenize.TokenError)
"""What numpy raises for bytes that do not begin an npy file."""


def read_token_shard(path: Path) -> Iterator[TokenBlock]:
    """The blocks of one tar, in order, not yet checked against the facts.

    Raises:
        UserError: a damaged tar, a block without codes, kept cells or keys, or arrays of unequal length.
    """
    for name, members in read_samples(path):
        yield _block(path, name, members)


def _block(path: Path, name: str, members: Mapping[str, bytes]) -> TokenBlock:
    for needed in ("codes.npy", "kept.npy", "keys.json"):
        if needed not in members:
            raise UserError(f"{path}: the block {name} lacks {needed}")
    keys = _names(members["keys.json"], f"{path}: {name}.keys.json")
    arrays = {
        member: _array(members[f"{member}.npy"], np.dtype(dtype), f"{path}: {name}.{member}.npy")
        for member, dtype in ARRAYS.items()
        if f"{member}.npy" in members
    }
    for member, array in arrays.items():
        if array.shape[:1] != (len(keys),):
            raise UserError(f"{path}: {name}.{member}.npy has shape {array.shape}; expected {len(keys)} rows")
    sources = None
    if "sources.json" in members:
        sources = _names(members["sources.json"], f"{path}: {name}.sources.json")
        if len(sources) != len(keys):
            raise UserError(f"{path}: {name}.sources.json has {len(sources)} names; expected {len(keys)}")
    return TokenBlock(keys, **{member: arrays.get(member) for member in ARRAYS}, sources=sources)  # type: ignore[arg-type]


def _names(data: bytes, where: str) -> tuple[str, ...]:
    return tuple(parsed(list[str], data, where))


def _array(data: bytes, dtype: np.dtype[Any], where: str) -> NDArray[Any]:
    """The array of an npy file, read-only and not copied; its size is checked before anything is allocated.

    Raises:
        UserError: not an npy file, another dtype or memory order, or a number of bytes that does not fit its shape.
    """
    file = io.BytesIO(data)
    try:
        shape, fortran, found = HEADERS[np.lib.format.read_magic(file)](file)
    except NO_HEADER as error:
        raise UserError(f"{where} is damaged: {' '.join(str(error).split())[:200]}") from error
    if found != dtype or fortran:
        raise UserError(
            f"{where} is {found}{' in Fortran order' if fortran else ''}, expected {dtype} in C order"
        )
    start, count = file.tell(), math.prod(shape)
    if min(shape, default=0) < 0 or len(data) - start != count * dtype.itemsize:
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
