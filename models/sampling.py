"""Sampling from a Stackformer (paper section 3.3, Algorithm 1), one token through each transformer a step.

Each step draws a code from the Code-Transformer and then its position from the Position-Transformer. Guidance
combines the raw logits, then comes the support mask, then temperature and truncation. An image's randomness
is two uniform numbers a step from a generator of its own seed, turned into a choice by the inverse of the
cumulative distribution: so it depends neither on the batch nor on the device.

Shapes: B images, R = rows (B, or 2B under guidance: conditioned, then unconditioned), C = N_c, N kept codes,
K codes, L positions, V entries of some vocabulary (K or L).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from models.stackformer import (
    Stackformer,
    StackformerConfig,
    ascending_support,
    at_least_fp32,
    unused_support,
)
from models.transformer import KeyValueCache


@dataclass(frozen=True)
class Truncation:
    """How a distribution is sharpened before the draw.

    Attributes:
        temperature: > 0, divides the logits.
        top_k: keeps the k likeliest; 0 keeps all.
        top_p: keeps the fewest of the likeliest that together reach this probability; 1 keeps all.
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
        if self.top_k < 0:
            raise ValueError(f"top_k is {self.top_k}, expected ≥ 0 (0 keeps all)")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}, expected 0 < top_p ≤ 1 (1 keeps all)")


@dataclass(frozen=True)
class SamplingSettings:
    """How images are drawn.

    Attributes:
        guidance: g in null + g · (conditioned - null), on logits; 1 is unguided, 0 ignores the condition.
        code: of the codes.
        position: of the positions.
    """

    guidance: float
    code: Truncation
    position: Truncation


@dataclass(frozen=True)
class Sampled:
    """codes_BN int64 in 0 … K-1, in the order of their drawing; positions_BN int64 in 0 … L-1, distinct."""

    codes_BN: Tensor
    positions_BN: Tensor


class CachedStackformer:
    """A Stackformer in the middle of its sequences: gives the next logits, takes what was drawn from them.

    Args:
        model: in eval mode.
        condition_BC: int64 conditions, on the model's device.
        guidance: see `SamplingSettings`.
    """

    def __init__(self, model: Stackformer, condition_BC: Tensor, guidance: float) -> None:
        self.model, self.guidance, self.step = model, guidance, 0
        self.guided = guidance != 1 and model.config.condition != "none"
        if self.guided:
            condition_BC = torch.cat([condition_BC, model.null_condition(len(condition_BC))])
        config, rows = model.config, len(condition_BC)
        self._code_caches = model.code_transformer.new_caches(rows, config.length)
        self._position_caches: list[KeyValueCache] = []
        if config.network.position_layers:
            self._position_caches = model.position_transformer.new_caches(rows, config.num_kept)
        self._h_c_RD = model.code_transformer(model.embed_condition(condition_BC), self._code_caches)[:, -1]

    def _rows(self, value_B: Tensor) -> Tensor:
        """The same value for an image's conditioned and unconditioned rows: [B] → [R, 1]."""
        return (value_B.repeat(2) if self.guided else value_B)[:, None]

    def _guide(self, logits_RV: Tensor) -> Tensor:
        if not self.guided:
            return at_least_fp32(logits_RV)
        conditioned_BV, null_BV = at_least_fp32(logits_RV).chunk(2)
        return null_BV + self.guidance * (conditioned_BV - null_BV)

    def code_logits(self) -> Tensor:
        """Of the next code, [B, K], guided."""
        return self._guide(self.model.code_head(self._h_c_RD))

    def position_logits(self, code_B: Tensor) -> Tensor:
        """Of that code's position, [B, L], guided, not yet masked; once a step."""
        u_p_R1D = self._h_c_RD[:, None] + self.model.e_c(self._rows(code_B))  # (12)
        h_p_R1D = self.model.position_transformer(u_p_R1D, self._position_caches)
        return self._guide(self.model.position_head(h_p_R1D[:, 0]))

    def advance(self, code_B: Tensor, position_B: Tensor) -> None:
        """Go on to the next step."""
        u_c_R1D = self.model.embed(self._rows(code_B), self._rows(position_B), self.step)  # (10)
        self._h_c_RD = self.model.code_transformer(u_c_R1D, self._code_caches)[:, 0]
        self.step += 1


class PositionMemory:
    """Which positions the next step may take, for each image."""

    def __init__(self, config: StackformerConfig, batch: int, device: torch.device) -> None:
        self.config, self.step_1 = config, torch.zeros(1, dtype=torch.int64, device=device)
        self._previous_B1 = torch.full((batch, 1), -1, device=device)
        self._used_at_BL = torch.full((batch, config.num_positions), config.num_kept, device=device)

    def support(self) -> Tensor:
        """Bool [B, L]; see `Stackformer.support`."""
        config = self.config
        if config.network.position_support == "ascending":
            return ascending_support(self._previous_B1, self.step_1, config.num_kept, config.num_positions)[
                :, 0
            ]
        return unused_support(self._used_at_BL, self.step_1)[:, 0]

    def take(self, position_B: Tensor) -> None:
        """Remember the step's positions and go on to the next step."""
        self._previous_B1 = position_B[:, None]
        self._used_at_BL.scatter_(1, self._previous_B1, self.step_1.expand(len(position_B), 1))
        self.step_1 = self.step_1 + 1


def draw_uniform(seeds: Sequence[int], steps: int) -> Tensor:
    """Uniform float64 in [0, 1), [B, steps, 2] (code, position); row b follows from `seeds[b]` alone."""
    rows = [
        torch.rand(steps, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        for seed in seeds
    ]
    return torch.stack(rows)


def draw(logits_BV: Tensor, truncation: Truncation, uniform_B: Tensor) -> Tensor:
    """Choose an entry a row: temperature, top-k, top-p of what top-k left, then the inverse distribution.

    Args:
        logits_BV: -inf where an entry must not be chosen; one finite entry a row at least.
        truncation: how to sharpen.
        uniform_B: float64 in [0, 1); the entries lie along it from the likeliest to the least likely.

    Returns:
        int64 [B].
    """
    sorted_BV, order_BV = (logits_BV.double() / truncation.temperature).sort(
        dim=-1, descending=True, stable=True
    )
    if truncation.top_k:
        sorted_BV, order_BV = sorted_BV[:, : truncation.top_k], order_BV[:, : truncation.top_k]
    cumulative_BV = sorted_BV.softmax(dim=-1).cumsum(dim=-1)
    before_BV = torch.nn.functional.pad(cumulative_BV[:, :-1], (1, 0))
    kept_B = (before_BV < truncation.top_p).sum(dim=-1, keepdim=True)
    goal_B1 = uniform_B[:, None] * cumulative_BV.gather(-1, kept_B - 1)
    rank_B1 = (cumulative_BV <= goal_B1).sum(dim=-1, keepdim=True)
    supported_B1 = (sorted_BV > -math.inf).sum(dim=-1, keepdim=True)
    return order_BV.gather(-1, torch.minimum(rank_B1, torch.minimum(kept_B, supported_B1) - 1))[:, 0]


@torch.no_grad()
def sample(
    model: Stackformer, condition_BC: Tensor, seeds: Sequence[int], settings: SamplingSettings
) -> Sampled:
    """Algorithm 1, given conditions.

    Args:
        model: in eval mode, on any device.
        condition_BC: int64, one row an image.
        seeds: one an image; the image's noise depends on it alone.
        settings: guidance and truncation.

    Raises:
        ValueError: as many seeds as conditions are needed, and a model in eval mode.
    """
    if model.training or len(seeds) != len(condition_BC):
        raise ValueError(
            f"expected eval mode and one seed an image: {len(seeds)} seeds, {len(condition_BC)} conditions"
        )
    device, config = model.e_c.weight.device, model.config
    uniform_BN2 = draw_uniform(seeds, config.num_kept).to(device)
    state = CachedStackformer(model, condition_BC.to(device), settings.guidance)
    memory = PositionMemory(config, len(seeds), device)
    codes, positions = [], []
    for step in range(config.num_kept):
        code_B = draw(state.code_logits(), settings.code, uniform_BN2[:, step, 0])
        if config.network.position_layers:
            logits_BL = state.position_logits(code_B).masked_fill(~memory.support(), -math.inf)
            position_B = draw(logits_BL, settings.position, uniform_BN2[:, step, 1])
            memory.take(position_B)
        else:
            position_B = torch.full_like(code_B, step)
        codes.append(code_B)
        positions.append(position_B)
        if step + 1 < config.num_kept:
            state.advance(code_B, position_B)
    return Sampled(torch.stack(codes, dim=1), torch.stack(positions, dim=1))
