"""Checks of what callers give: one line that says what is wrong. Without them a class of -1 is drawn from the row of a code,
numbers of unequal shape are broadcast, and an index outside its table ends a GPU process's work on the device.

Values are not looked at while a model is traced, or on meta tensors.
"""

import operator
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

FAR_FROM_ONE = 10.0
"""An image in [-1, 1] may overshoot (a resize, noise); values beyond this are bytes or a picture's own scale."""


def require_images(image_BCHW: Any, size: int) -> None:
    """Check images that a model encodes.

    Raises:
        ValueError: not floats [B, 3, size, size] with B ≥ 1, or on the CPU not near [-1, 1].
    """
    wanted = f"expected floats [B, 3, {size}, {size}] in [-1, 1] (shards.images.pixels.to_tensor makes them of bytes)"
    _require_tensor(image_BCHW, "image_BCHW", wanted)
    shape = tuple(image_BCHW.shape)
    if len(shape) != 4 or shape[1:] != (3, size, size) or not shape[0] or not image_BCHW.is_floating_point():
        raise ValueError(f"image_BCHW is {_dtype(image_BCHW)} {list(shape)}; {wanted}")
    if image_BCHW.device.type != "cpu" or _hidden(image_BCHW):
        return  # on a GPU a look at the values would wait for it
    low, high = (float(value) for value in image_BCHW.detach().aminmax())
    if not (low >= -FAR_FROM_ONE and high <= FAR_FROM_ONE):  # written so that NaN does not pass
        raise ValueError(f"image_BCHW has values {low:g} … {high:g}; {wanted}")


def as_tokens(
    codes_BN: Any, positions_BN: Any, num_codes: int, num_positions: int, empty: bool
) -> tuple[Tensor, Tensor]:
    """Codes and positions as int64, checked.

    Args:
        codes_BN: whole numbers of any dtype in 0 … K-1.
        positions_BN: the same shape, in 0 … L-1, each at most once in a row.
        num_codes: K.
        num_positions: L.
        empty: whether slots at position L are allowed, any number of them.

    Raises:
        ValueError: another type or shape, a number out of range, or a position twice in a row.
    """
    _require_pairs(codes_BN, positions_BN)
    codes_BN, positions_BN = codes_BN.to(torch.int64), positions_BN.to(torch.int64)
    if _hidden(codes_BN):
        return codes_BN, positions_BN
    _require_range(codes_BN, "codes_BN", num_codes - 1)
    _require_range(positions_BN, "positions_BN", num_positions - (not empty))
    ordered_BN = positions_BN.sort(dim=-1).values
    twice_BN = (ordered_BN.diff(dim=-1) == 0) & (ordered_BN[:, 1:] < num_positions)
    if bool(twice_BN.any()):
        row, place = twice_BN.nonzero()[0].tolist()
        raise ValueError(f"positions_BN has position {int(ordered_BN[row, place])} twice in row {row}")
    return codes_BN, positions_BN


def require_conditions(condition_BC: Any, length: int, null_code: int) -> None:
    """Check conditions: whole numbers [B, N_c] in 0 … null code.

    Raises:
        ValueError: another type, shape or number.
    """
    _require_condition_shape(condition_BC, length)
    if not _hidden(condition_BC):
        _require_range(condition_BC, "condition_BC", null_code)


def require_sequences(codes_BN: Any, positions_BN: Any, condition_BC: Any, length: int) -> None:
    """Check types and shapes of what a Stackformer learns from: codes and positions [B, N], conditions [B, N_c] = [B, length].

    No value is looked at, so that a training step never waits for the device.

    Raises:
        ValueError: another type or shape.
    """
    _require_pairs(codes_BN, positions_BN)
    _require_condition_shape(condition_BC, length)
    if len(condition_BC) != len(codes_BN):
        raise ValueError(
            f"{len(codes_BN)} sequences of codes and {len(condition_BC)} conditions: expected one each"
        )


def whole_numbers(seeds: Any) -> Sequence[int]:
    """Seeds as Python's whole numbers: of a list, a range, an array or a tensor.

    Raises:
        ValueError: none, or one that is not a whole number of 64 bits.
    """
    try:
        found = [operator.index(seed) for seed in (seeds.tolist() if hasattr(seeds, "tolist") else seeds)]
    except TypeError as error:
        raise ValueError(f"seeds: {error}; expected whole numbers, one per image") from error
    if not found:
        raise ValueError("seeds: there are none; expected one per image, for at least one image")
    _require_each(found)
    return found


def _require_each(seeds: Iterable[int]) -> None:
    for seed in seeds:
        if not -(1 << 63) <= seed < 1 << 64:
            raise ValueError(f"seeds: {seed} has more than 64 bits")


def _require_pairs(codes_BN: Any, positions_BN: Any) -> None:
    named = {"codes_BN": codes_BN, "positions_BN": positions_BN}
    for name, given in named.items():
        _require_tensor(given, name, "expected whole numbers [B, N]")
        _require_whole(given, name)
    if codes_BN.dim() != 2 or codes_BN.shape != positions_BN.shape:
        shapes = " and ".join(f"{name} {list(given.shape)}" for name, given in named.items())
        raise ValueError(f"{shapes}: expected the same shape [B, N]")


def _require_condition_shape(condition_BC: Any, length: int) -> None:
    wanted = f"expected whole numbers [B, {length}]" + (": class c is [[c]]" if length == 1 else "")
    _require_tensor(condition_BC, "condition_BC", wanted)
    _require_whole(condition_BC, "condition_BC")
    if condition_BC.dim() != 2 or condition_BC.shape[1] != length:
        raise ValueError(f"condition_BC is {list(condition_BC.shape)}; {wanted}")


def _require_tensor(given: Any, name: str, wanted: str) -> None:
    if not isinstance(given, Tensor):
        raise ValueError(f"{name} is a {type(given).__name__}; {wanted}, as a tensor (torch.as_tensor)")


def _require_whole(given: Tensor, name: str) -> None:
    if given.is_floating_point() or given.is_complex() or given.dtype == torch.bool:
        raise ValueError(f"{name} is {_dtype(given)}; expected whole numbers (int64)")


def _require_range(given: Tensor, name: str, most: int) -> None:
    if not given.numel():
        return
    low, high = torch.stack(given.aminmax()).tolist()  # one wait for the device
    if low < 0 or high > most:
        raise ValueError(f"{name} has values {low} … {high}; expected 0 … {most}")


def _hidden(given: Tensor) -> bool:
    """Whether the values cannot be looked at."""
    return given.is_meta or torch.compiler.is_compiling()


def _dtype(given: Tensor) -> str:
    return str(given.dtype).removeprefix("torch.")
