"""Sampling from a Stackformer (paper section 3.3, Algorithm 1), one token through each transformer a step (decoding.py).

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
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from models.capture import StepGraphs
from models.decoding import DecodingTransformer, Projection
from models.stackformer import (
    Stackformer,
    StackformerConfig,
    ascending_support,
    at_least_fp32,
    unused_support,
)

BUCKET = 64
"""Where steps are captured as CUDA graphs: attention reads up to the next multiple of it, under a mask; a graph each."""


@dataclass(frozen=True)
class Truncation:
    """How a distribution is sharpened before the draw.

    Attributes:
        temperature: divides the logits (> 0).
        top_k: keeps the k likeliest; 0 keeps all (≥ 0).
        top_p: keeps the fewest of the likeliest that together reach this probability; 1 keeps all (> 0, ≤ 1).
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
        guidance_scale: g in null + g · (conditioned - null), on logits; 1 is unguided, 0 ignores the condition.
        code: of the codes.
        position: of the positions.
    """

    guidance_scale: float
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
        model: in eval mode; later changes of its weights are not seen.
        batch: B.
        guidance_scale: see `SamplingSettings`.
        bucket: attention reads up to the next multiple of it, under a mask where that is farther than the sequence.
        kept_as: of keys and values; see `models.decoding.DecodingBlock`.
    """

    def __init__(
        self,
        model: Stackformer,
        batch: int,
        guidance_scale: float,
        bucket: int = 1,
        kept_as: torch.dtype | None = None,
    ) -> None:
        self.model, self.guidance_scale, self.bucket, self.step = model, guidance_scale, bucket, 0
        self.guided = guidance_scale != 1 and model.config.condition != "none"
        config, rows = model.config, 2 * batch if self.guided else batch
        self._first = config.condition_length
        length = self._reach(config.length)
        self._code_transformer = DecodingTransformer(model.code_transformer, rows, length, kept_as)
        self._code_head = Projection(model.code_head, rows)
        if config.network.position_layers:
            length = self._reach(config.num_kept)
            self._position_transformer = DecodingTransformer(
                model.position_transformer, rows, length, kept_as
            )
            self._position_head = Projection(model.position_head, rows)
        weight = model.e_c.weight
        self.step_1 = torch.zeros(1, dtype=torch.int64, device=weight.device)
        self._h_c_RD = weight.new_zeros(rows, weight.shape[1])
        self._sos = config.num_positions
        self._place_R1 = torch.full((rows, 1), self._sos, device=weight.device)

    def start(self, condition_BC: Tensor) -> None:
        """Begin new sequences, int64 [B, N_c]: the conditions."""
        if self.guided:
            condition_BC = torch.cat([condition_BC, self.model.null_condition(len(condition_BC))])
        self.step = 0
        self.step_1.zero_()
        time_C = torch.arange(self._first, device=condition_BC.device)
        self._place_R1.fill_(self._sos)
        place_RC = self._place_R1.expand(-1, self._first)
        u_c_RCD = self.model.embed_condition(condition_BC)
        h_c_RCD = self._code_transformer(u_c_RCD, place_RC, time_C, self._first)
        self._h_c_RD.copy_(h_c_RCD[:, -1])

    def code_logits(self) -> Tensor:
        """Of the next code, [B, K], guided."""
        return self._guide(self._code_head(self._h_c_RD))

    def position_logits(self, code_B: Tensor) -> Tensor:
        """Of that code's position, [B, L], guided, not yet masked; once a step."""
        u_p_R1D = self._h_c_RD[:, None] + self.model.e_c(self._rows(code_B))  # (12)
        _, reach = self.reaches(self.step)
        mask = self._mask(self.step_1, reach)
        h_p_R1D = self._position_transformer(u_p_R1D, self._place_R1, self.step_1, reach, mask)
        return self._guide(self._position_head(h_p_R1D[:, 0]))

    def advance(self, code_B: Tensor, position_B: Tensor) -> None:
        """Go on to the next step."""
        time_1, (reach, _) = self.step_1 + self._first, self.reaches(self.step + 1)
        times_1D = self.model.e_t(time_1)
        self._place_R1.copy_(self._rows(position_B))
        u_c_R1D = self.model.embed(self._rows(code_B), self._place_R1, times_1D)  # (10)
        mask = self._mask(time_1, reach)
        self._h_c_RD.copy_(self._code_transformer(u_c_R1D, self._place_R1, time_1, reach, mask)[:, 0])
        self.step += 1
        self.step_1 += 1

    def reaches(self, step: int) -> tuple[int, int]:
        """How far attention reads at a step, in the Code- and in the Position-Transformer."""
        return self._reach(step + self._first), self._reach(step + 1)

    def _reach(self, length: int) -> int:
        return -(-length // self.bucket) * self.bucket

    def _mask(self, time_1: Tensor, reach: int) -> Tensor | None:
        return None if self.bucket == 1 else (torch.arange(reach, device=time_1.device) <= time_1)[None]

    def _rows(self, value_B: Tensor) -> Tensor:
        """The same value for an image's conditioned and unconditioned rows: [B] → [R, 1]."""
        return (value_B.repeat(2) if self.guided else value_B)[:, None]

    def _guide(self, logits_RV: Tensor) -> Tensor:
        if not self.guided:
            return at_least_fp32(logits_RV)
        conditioned_BV, null_BV = at_least_fp32(logits_RV).chunk(2)
        return null_BV + self.guidance_scale * (conditioned_BV - null_BV)


class PositionMemory:
    """Which positions the next step may take, for each image."""

    def __init__(self, config: StackformerConfig, batch: int, device: torch.device) -> None:
        self.config = config
        self._step_1 = torch.zeros(1, dtype=torch.int64, device=device)
        self._previous_B1 = torch.zeros(batch, 1, dtype=torch.int64, device=device)
        self._used_at_BL = torch.zeros(batch, config.num_positions, dtype=torch.int64, device=device)
        self.start()

    def start(self) -> None:
        """Begin new sequences."""
        self._step_1.zero_()
        self._previous_B1.fill_(-1)
        self._used_at_BL.fill_(self.config.num_kept)

    def support(self) -> Tensor:
        """Bool [B, L]; see `Stackformer.support`."""
        config = self.config
        if config.network.position_support == "ascending":
            return ascending_support(self._previous_B1, self._step_1, config.num_kept, config.num_positions)[
                :, 0
            ]
        return unused_support(self._used_at_BL, self._step_1)[:, 0]

    def take(self, position_B: Tensor) -> None:
        """Remember the step's positions and go on to the next step."""
        self._previous_B1.copy_(position_B[:, None])
        self._used_at_BL.scatter_(1, self._previous_B1, self._step_1.expand(len(position_B), 1))
        self._step_1 += 1


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
        uniform_B: float64 in [0, 1); the entries lie along it from the likeliest to the least likely, equal ones in their order
            (CUDA's sorts are stable at every size: in-block up to 4,096 entries, radix above, none of which waits for the host).

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


class Sampler:
    """Algorithm 1 for batches of one size, made once: weights laid out, caches reserved, on a GPU its steps captured.

    Args:
        model: in eval mode, on any device, in any precision; later changes of its weights are not seen.
        batch: B.
        settings: guidance and truncation.
        bucket: see `CachedStackformer`; None takes what is fastest on the device.
        kept_as: see `CachedStackformer`.
        capture: whether steps are captured as CUDA graphs; None does so on a GPU.

    Raises:
        ValueError: the model is in training mode.
    """

    @torch.no_grad()
    def __init__(
        self,
        model: Stackformer,
        batch: int,
        settings: SamplingSettings,
        bucket: int | None = None,
        kept_as: torch.dtype | None = None,
        capture: bool | None = None,
    ) -> None:
        if model.training:
            raise ValueError("expected eval mode, the model is in training mode")
        self.config, self.settings, self.batch = model.config, settings, batch
        self.device = model.e_c.weight.device
        on_gpu = self.device.type == "cuda"
        self._state = CachedStackformer(
            model, batch, settings.guidance_scale, bucket or (BUCKET if on_gpu else 1), kept_as
        )
        self._memory = PositionMemory(model.config, batch, self.device)
        kept = model.config.num_kept
        self._uniform_BN2 = torch.zeros(batch, kept, 2, dtype=torch.float64, device=self.device)
        self._codes_BN = torch.zeros(batch, kept, dtype=torch.int64, device=self.device)
        self._positions_BN = self._codes_BN.clone()
        self._graphs = StepGraphs(self.device) if (on_gpu if capture is None else capture) else None

    def __call__(self, condition_BC: Tensor, seeds: Sequence[int]) -> Sampled:
        """Draw one image a condition.

        Args:
            condition_BC: int64, one row an image.
            seeds: one an image; the image's noise depends on it alone.

        Raises:
            ValueError: not one seed an image, or another number of images than `batch`.
        """
        self.start(condition_BC, seeds)
        for step in range(1, self.config.num_kept):
            self.go_on(step)
        return Sampled(self._codes_BN.clone(), self._positions_BN.clone())

    @torch.no_grad()
    def start(self, condition_BC: Tensor, seeds: Sequence[int]) -> None:
        """Begin new images and draw their first codes; see `__call__`."""
        if not len(seeds) == len(condition_BC) == self.batch:
            raise ValueError(
                f"expected one seed an image, {self.batch} of each: {len(seeds)} seeds, {len(condition_BC)} conditions"
            )
        self._uniform_BN2.copy_(draw_uniform(seeds, self.config.num_kept))
        self._memory.start()
        self._state.start(condition_BC.to(self.device))
        self._choose()

    @torch.no_grad()
    def go_on(self, step: int) -> None:
        """Draw codes number `step`; where steps are captured, the first one of its reaches is, and the others replay it."""
        if self._graphs is None:
            self._advance_and_choose()
            return
        self._graphs.run(self._state.reaches(step), self._advance_and_choose, partial(self._rewind, step))
        self._state.step = step

    @property
    def captures(self) -> bool:
        """Whether steps are captured as CUDA graphs; False once that has failed."""
        return self._graphs is not None and not self._graphs.failed

    def _rewind(self, step: int) -> None:
        self._state.step = step - 1

    def _advance_and_choose(self) -> None:
        previous_1 = self._state.step_1
        code_B1, position_B1 = (
            chosen_BN.index_select(1, previous_1) for chosen_BN in (self._codes_BN, self._positions_BN)
        )
        self._state.advance(code_B1[:, 0], position_B1[:, 0])
        self._choose()

    def _choose(self) -> None:
        """Draw the step's codes, then their positions."""
        state, step_1 = self._state, self._state.step_1
        uniform_B2 = self._uniform_BN2.index_select(1, step_1)[:, 0]
        code_B = draw(state.code_logits(), self.settings.code, uniform_B2[:, 0])
        self._codes_BN.index_copy_(1, step_1, code_B[:, None])
        if not self.config.network.position_layers:
            self._positions_BN.index_copy_(1, step_1, step_1.expand(self.batch, 1))
            return
        logits_BL = state.position_logits(code_B).masked_fill(~self._memory.support(), -math.inf)
        position_B = draw(logits_BL, self.settings.position, uniform_B2[:, 1])
        self._memory.take(position_B)
        self._positions_BN.index_copy_(1, step_1, position_B[:, None])


def sample(
    model: Stackformer, condition_BC: Tensor, seeds: Sequence[int], settings: SamplingSettings
) -> Sampled:
    """One batch of a `Sampler` made for it; see there."""
    return Sampler(model, len(seeds), settings)(condition_BC, seeds)
