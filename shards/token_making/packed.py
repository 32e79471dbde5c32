"""Codes and positions as arrays that were made elsewhere: read, checked, put in raster order."""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.token_making.writing import pack_flat
from shards.tokens.blocks import TokenBlock
from workspace.errors import UserError
from workspace.meant import did_you_mean

HOW = {
    "b": "of a mask [B, L] they are np.nonzero(mask)[1].reshape(len(mask), -1)",
    "U": "names, numbers = np.unique(…, return_inverse=True) makes them, and --class-names takes the names",
    "S": "names, numbers = np.unique(…, return_inverse=True) makes them, and --class-names takes the names",
}
"""Kind of a dtype that is not of whole numbers → what makes them of it."""


def whole_numbers(path: Path, dimensions: int, below: int, what: str) -> NDArray[np.int64]:
    """An array of whole numbers from an npy file.

    Raises:
        UserError: not an npy file, wrong dimensions, not whole numbers, or a value outside 0 … below-1, whose place is named.
    """
    array = _loaded(path, what)
    if not np.issubdtype(array.dtype, np.integer):
        how = HOW.get(array.dtype.kind, "convert it with .astype('int64')")
        raise UserError(f"{path} is {array.dtype}; expected whole numbers: {how}")
    if array.ndim != dimensions:
        raise UserError(f"{path} has shape {array.shape}; expected {dimensions} dimensions of {what}")
    wrong = np.argwhere((array < 0) | (array >= below))
    if len(wrong):
        place = tuple(int(number) for number in wrong[0])
        from_one = array.min() == 1 and array.max() == below
        hint = " (counted from 1? subtract 1)" if from_one else ""
        raise UserError(f"{path}: {what} {array[place]} at {list(place)}; expected 0 … {below - 1}{hint}")
    return array.astype(np.int64)


def _loaded(path: Path, what: str) -> NDArray[Any]:
    """The array of an npy file; UserError if it is anything else, with how to write one."""
    if not path.is_file():
        wrong = "is a folder" if path.is_dir() else f"does not exist{did_you_mean(str(path))}"
        raise UserError(f"{path} {wrong}; expected {what} in an npy file")
    wrong = f"{path} is not an npy file; expected {what}, as np.save writes an array"
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        held = " without Python objects" if "pickle" in str(error) else ""
        raise UserError(f"{wrong}{held}") from error
    if not isinstance(array, np.ndarray):
        names = ", ".join(list(array)[:4])
        raise UserError(f"{wrong}: it is an archive of {names}, of which np.save('{what}.npy', …) writes one")
    return array


@dataclass(frozen=True)
class Packed:
    """Codes and positions of images one after the other, [ΣN] each, and where each image's begin, [images + 1].

    Attributes:
        each: N, where all images have as many; else None.
    """

    codes: NDArray[np.int64]
    positions: NDArray[np.int64]
    offsets: NDArray[np.int64]
    each: int | None


def block_of(packed: Packed, num_positions: int, keys: tuple[str, ...]) -> TokenBlock:
    """All images as one block, in raster order.

    Raises:
        UserError: a position twice in an image.
    """
    lengths = np.diff(packed.offsets)
    image = np.repeat(np.arange(len(lengths)), lengths)
    order = np.lexsort((packed.positions, image))
    positions = packed.positions[order]
    twice = np.flatnonzero((np.diff(positions) == 0) & (np.diff(image) == 0))
    if len(twice):
        row, place = int(image[twice[0]]), int(positions[twice[0]])
        raise UserError(f"positions: row {row} has position {place} twice; expected N different ones")
    codes, kept = packed.codes[order].astype(np.uint16), pack_flat(positions, lengths, num_positions)
    if packed.each is not None:
        return TokenBlock(keys, codes.reshape(-1, packed.each), kept, None, None, None)
    return TokenBlock(keys, codes, kept, None, None, None, offsets=packed.offsets)


def tokens_of(
    codes: Path, positions: Path, offsets: Path | None, num_codes: int, num_positions: int
) -> Packed:
    """Both arrays.

    Raises:
        UserError: one is out of range, they differ in shape, or the offsets do not part them among images.
    """
    dimensions = 2 if offsets is None else 1
    found = whole_numbers(codes, dimensions, num_codes, "codes")
    places = whole_numbers(positions, dimensions, num_positions, "positions")
    if found.shape != places.shape:
        raise UserError(f"{codes} has shape {found.shape} and {positions} {places.shape}; expected the same")
    if offsets is None:
        count, each = found.shape
        return Packed(found.ravel(), places.ravel(), np.arange(count + 1) * each, each)
    ends = whole_numbers(offsets, 1, len(found) + 1, "offsets")
    if len(ends) < 2 or ends[0] or ends[-1] != len(found) or (np.diff(ends) < 1).any():
        raise UserError(
            f"{offsets} does not ascend from 0 to {len(found):,}, the number of codes: expected one offset for each image, "
            "and the end"
        )
    return Packed(found, places, ends, None)
