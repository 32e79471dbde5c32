"""Draws an entry from a distribution: truncation, then the inverse of the cumulative distribution.

An image's randomness is two uniform numbers per step from a generator with its own seed, so it depends neither on the batch
nor on the device.

Shapes: B images, V entries of some vocabulary (K or L).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from models.base.given import whole_numbers


@dataclass(frozen=True)
class Truncation:
    """Temperature, top-k and top-p, applied before sampling.

    Attributes:
        temperature: divides the logits (> 0).
        top_k: keeps the k likeliest; 0 keeps all (≥ 0).
        top_p: keeps the smallest set of the likeliest whose probabilities reach this sum; 1 keeps all (> 0, ≤ 1).
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    temperature: float
    top_k: int
    top_p: float

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(
                f"temperature is {self.temperature}, expected > 0 (top_k: 1 takes the likeliest)"
            )
        if math.isinf(self.temperature):
            raise ValueError("temperature is inf, expected a finite number")
        if self.top_k < 0:
            raise ValueError(f"top_k is {self.top_k}, expected ≥ 0 (0 keeps all)")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}, expected 0 < top_p ≤ 1 (1 keeps all)")


def draw_uniform(seeds: Sequence[int], steps: int, numbers: int = 2) -> Tensor:
    """Uniform float64 in [0, 1), [B, steps, numbers] (code, position), on the CPU; row b depends only on `seeds[b]`.

    Raises:
        ValueError: no seed, or one that has more than 64 bits or is not a whole number.
    """
    form: dict[str, Any] = {"dtype": torch.float64, "device": "cpu"}
    rows = [
        torch.rand(steps, numbers, generator=torch.Generator().manual_seed(seed), **form)
        for seed in whole_numbers(seeds)
    ]
    return torch.stack(rows)


def draw(logits_BV: Tensor, truncation: Truncation, uniform_B: Tensor) -> Tensor:
    """Draw an entry per row: temperature, top-k, top-p of the remaining entries, then the inverse distribution.

    Args:
        logits_BV: -inf for entries that must not be drawn; at least one finite entry per row.
        truncation: temperature, top-k and top-p.
        uniform_B: float64 in [0, 1); entries are ordered along it from the likeliest to the least likely, ties by index
            (CUDA's sorts are stable at every size, in-block up to 4,096 entries and radix above, and never wait for the host).

    Returns:
        int64 [B].
    """
    sorted_BV, order_BV = logits_BV.sort(dim=-1, descending=True, stable=True)
    if truncation.top_k:
        sorted_BV, order_BV = sorted_BV[:, : truncation.top_k], order_BV[:, : truncation.top_k]
    sorted_BV = sorted_BV.double() / truncation.temperature
    cumulative_BV = sorted_BV.softmax(dim=-1).cumsum(dim=-1)
    before_BV = torch.nn.functional.pad(cumulative_BV[:, :-1], (1, 0))
    kept_B = (before_BV < truncation.top_p).sum(dim=-1, keepdim=True)
    goal_B1 = uniform_B[:, None] * cumulative_BV.gather(-1, kept_B - 1)
    rank_B1 = (cumulative_BV <= goal_B1).sum(dim=-1, keepdim=True)
    supported_B1 = (sorted_BV > -math.inf).sum(dim=-1, keepdim=True)
    return order_BV.gather(-1, torch.minimum(rank_B1, torch.minimum(kept_B, supported_B1) - 1))[:, 0]
