"""Drawing a part of an image again: some codes stay at their positions, the others are drawn given them.

A sequence is in raster order, so the codes to draw lie between those that stay. At each step the next token is the next one
that stays, or a new one in a free cell before it. The model gives the probability of each choice,

    a_n(kept) = p(c) p(q | c)        a_n(c, p) = p(c) p(p | c) for a free cell p        (factors of Eq. 9, given the past)

and the step takes one in proportion to it. The product of what it divided by, w = Π_n Σ a_n, is the exact importance weight:
p(sequence) = w · (probability that it was drawn), for every sequence. Hence:

- nothing that is kept comes after the first free cell (a prefix): w is the same for all, and the draw is from the exact
  conditional distribution;
- otherwise a new code has seen what stays before it, not what follows (`candidates` 1). Of M candidates one is taken in
  proportion to w, which holds all likelihoods of what stays: as M grows this tends to the exact conditional distribution.

How many codes are drawn is not free: N is fixed, and so are the codes and the empty cells outside.

Shapes: B images, M candidates of each, R = B · M rows, N kept codes of which Q stay, K codes, L cells.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.sampling.choice import Truncation, draw, draw_uniform
from models.sampling.sampled import SamplingSettings
from models.sampling.state import CachedStackformer, PositionMemory
from models.stackformer.model import Stackformer

ALL = Truncation(temperature=1.0, top_k=0, top_p=1.0)
GATE, CHOICE = 1, 2
"""Added to a seed: the draws between what stays and what is new, and between candidates, use generators of their own, so that
new codes use the same numbers as those of `sample`."""


@dataclass(frozen=True)
class Staying:
    """The kept part of an image.

    Attributes:
        codes_Q: int64 in 0 … K-1.
        positions_Q: int64, ascending in 0 … L-1, none of them free.
        free_L: bool, cells that the other N - Q codes may take.
    """

    codes_Q: Tensor
    positions_Q: Tensor
    free_L: Tensor

    @property
    def is_prefix(self) -> bool:
        """Whether all that stays comes before the first free cell: then every draw is from the exact conditional."""
        free = self.free_L.nonzero()
        return not len(self.positions_Q) or bool(self.positions_Q[-1] < free[0])

    def require(self, model: Stackformer) -> None:
        """Check that the two fit.

        Raises:
            ValueError: nothing to draw, too few free cells, or cells that are both free and taken.
        """
        config = model.config
        if config.stops:
            raise ValueError(
                "images of this model have different numbers of codes; editing expects one number"
            )
        new, free = config.num_kept - len(self.codes_Q), int(self.free_L.sum())
        if len(self.free_L) != config.num_positions:
            raise ValueError(f"expected {config.num_positions} cells, free or not; got {len(self.free_L)}")
        if new < 1:
            raise ValueError("nothing to draw again: all codes stay")
        if free < new:
            raise ValueError(f"{new} codes are to be drawn, and {free} cells are free; expected as many")
        if self.free_L[self.positions_Q].any() or (self.positions_Q.diff() <= 0).any():
            raise ValueError("positions that stay are expected to ascend, and not to be free")


@dataclass(frozen=True)
class Redrawn:
    """Images of which a part was drawn again.

    Attributes:
        codes_BN: int64 in 0 … K-1, in raster order.
        positions_BN: int64, ascending in 0 … L-1.
        log_weight_BM: of each candidate, in nats (see the module).
        candidates_B: which of the M was taken.
    """

    codes_BN: Tensor
    positions_BN: Tensor
    log_weight_BM: Tensor
    candidates_B: Tensor

    @property
    def effective_B(self) -> Tensor:
        """How many equally good candidates the M are worth, 1 … M: (Σ w)² / Σ w²."""
        weight_BM = self.log_weight_BM.softmax(dim=1)
        return 1 / weight_BM.square().sum(dim=1)


class _Rows:
    """Each row's place in its sequence: the next kept code, and the number of new codes still missing."""

    def __init__(self, staying: Staying, rows: int, num_kept: int, device: torch.device) -> None:
        end = len(staying.free_L)
        pad = torch.tensor([end], device=device)
        self.free_L = staying.free_L.to(device)
        self.after_L1 = self.free_L.flip(0).cumsum(0).flip(0) - self.free_L.long()
        self.after_L1 = torch.cat([self.after_L1, pad * 0])
        self.codes_Q1 = torch.cat([staying.codes_Q.to(device), pad * 0])
        self.positions_Q1 = torch.cat([staying.positions_Q.to(device), pad])
        self.cell_L = torch.arange(end, device=device)
        self.next_R = torch.zeros(rows, dtype=torch.int64, device=device)
        self.missing_R = torch.full_like(self.next_R, num_kept - len(staying.codes_Q))
        self.previous_R = torch.full_like(self.next_R, -1)

    def kept(self) -> tuple[Tensor, Tensor, Tensor]:
        """The code and position that come next of those that stay, and whether that is allowed now: [R] each."""
        code_R, position_R = self.codes_Q1[self.next_R], self.positions_Q1[self.next_R]
        there_R = self.next_R < len(self.codes_Q1) - 1
        return code_R, position_R, there_R & (self.after_L1[position_R] >= self.missing_R)

    def free(self) -> Tensor:
        """Cells that a new code may take now: between the last token and the next that stays, with room for the rest; [R, L]."""
        _, position_R, _ = self.kept()
        between_RL = (self.cell_L > self.previous_R[:, None]) & (self.cell_L < position_R[:, None])
        room_RL = self.after_L1[:-1] >= self.missing_R[:, None] - 1
        return self.free_L & between_RL & room_RL & (self.missing_R > 0)[:, None]

    def take(self, new_R: Tensor, position_R: Tensor) -> None:
        """Advance past a token."""
        self.next_R += (~new_R).long()
        self.missing_R -= new_R.long()
        self.previous_R = position_R


class Editor:
    """Draws the part of an image that does not stay.

    Args:
        model: in eval mode, on any device, in any precision.
        staying: what stays.
        settings: guidance; temperature and truncation, of new codes and positions alone: weights are the model's own.
        candidates: M.
        most: sequences drawn at a time; None draws all.
        kept_as: see `CachedStackformer`.

    Raises:
        ValueError: see `Staying.require`.
    """

    def __init__(
        self,
        model: Stackformer,
        staying: Staying,
        settings: SamplingSettings,
        candidates: int = 1,
        most: int | None = None,
        kept_as: torch.dtype | None = None,
    ) -> None:
        staying.require(model)
        self.model, self.staying, self.settings, self.candidates = model, staying, settings, candidates
        self.most, self.kept_as = most, kept_as
        self.device = model.e_c.weight.device

    @torch.no_grad()
    def __call__(self, condition_BC: Tensor, seeds: Sequence[Sequence[int]]) -> Redrawn:
        """Draw one image per condition.

        Args:
            condition_BC: int64, one row per image.
            seeds: M for each image; with one candidate and nothing that stays, the image is that of `sample`.
        """
        batch, count = len(condition_BC), self.candidates
        assert [len(row) for row in seeds] == [count] * batch, "one seed per image and candidate"
        condition_RC = condition_BC.to(self.device).repeat_interleave(count, dim=0)
        flat = [seed for row in seeds for seed in row]
        most = self.most or len(flat)
        parts = [
            self._candidates(condition_RC[first : first + most], flat[first : first + most])
            for first in range(0, len(flat), most)
        ]
        codes_RN, positions_RN, log_weight_R = (torch.cat(part) for part in zip(*parts, strict=True))
        log_weight_BM = log_weight_R.view(batch, count)
        uniform_B = draw_uniform([row[0] + CHOICE for row in seeds], 1)[:, 0, 0].to(self.device)
        taken_B = draw(log_weight_BM, ALL, uniform_B)
        row_B = torch.arange(batch, device=self.device) * count + taken_B
        return Redrawn(codes_RN[row_B], positions_RN[row_B], log_weight_BM, taken_B)

    def _candidates(self, condition_RC: Tensor, seeds: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Codes and positions [R, N] and log w [R] of one candidate per row."""
        config, rows = self.model.config, len(condition_RC)
        state = CachedStackformer(
            self.model,
            rows,
            self.settings.guidance_scale,
            kept_as=self.kept_as,
            fused=False,
            looks_ahead=True,
        )
        memory, place = (
            PositionMemory(config, rows, self.device),
            _Rows(self.staying, rows, config.num_kept, self.device),
        )
        uniform_RN2 = draw_uniform(seeds, config.num_kept).to(self.device)
        gate_RN = draw_uniform([seed + GATE for seed in seeds], config.num_kept)[..., 0].to(self.device)
        state.start(condition_RC)
        taken, log_weight_R = [], uniform_RN2.new_zeros(rows)
        for step in range(config.num_kept):
            code_R, position_R, new_R, log_sum_R = self._step(
                state, memory, place, uniform_RN2[:, step], gate_RN[:, step]
            )
            log_weight_R = log_weight_R + log_sum_R
            taken.append((code_R, position_R))
            if step + 1 < config.num_kept:
                state.remember(code_R)
                memory.take(position_R)
                place.take(new_R, position_R)
                state.advance(code_R, position_R)
        codes, positions = zip(*taken, strict=True)
        return torch.stack(codes, dim=1), torch.stack(positions, dim=1), log_weight_R

    def _step(
        self,
        state: CachedStackformer,
        memory: PositionMemory,
        place: _Rows,
        uniform_R2: Tensor,
        gate_R: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The next code and position of each row, whether they are new, and the logarithm of the divisor."""
        kept_code_R, kept_position_R, may_stay_R = place.kept()
        free_RL, support_RL = place.free(), memory.support()
        log_code_RK = state.code_logits().double().log_softmax(dim=-1)
        logits_R1L = state.position_logits(kept_code_R)[:, None]
        last = self.model.config.num_positions - 1
        log_place_R1L = _log_softmax(logits_R1L, support_RL)
        log_kept_R = (
            log_code_RK.gather(1, kept_code_R[:, None])[:, 0]
            + log_place_R1L[:, 0].gather(1, kept_position_R.clamp_max(last)[:, None])[:, 0]
        ).masked_fill(~may_stay_R, -math.inf)
        if not free_RL.any():  # the next token is known in every row: no need to look at all codes
            return kept_code_R, kept_position_R, torch.zeros_like(may_stay_R), log_kept_R
        code_R, position_R, new_R, log_sum_R = choose_new(
            state, self.settings, log_code_RK, log_kept_R, free_RL, support_RL, uniform_R2, gate_R
        )
        return (
            torch.where(new_R, code_R, kept_code_R),
            torch.where(new_R, position_R, kept_position_R),
            new_R,
            log_sum_R,
        )


def choose_new(
    state: CachedStackformer,
    settings: SamplingSettings,
    log_code_RK: Tensor,
    log_kept_R: Tensor,
    free_RL: Tensor,
    support_RL: Tensor,
    uniform_R2: Tensor,
    gate_R: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A new code and position for each row, whether they are taken, not what stays, and log Σ a_n; needs most memory.

    Args:
        state: before the step.
        settings: truncation.
        log_code_RK: log p(c).
        log_kept_R: log a_n of what stays next; -inf where that must wait.
        free_RL, support_RL: cells that a new code may take, and those that any code may.
        uniform_R2, gate_R: the step's random numbers.
    """
    last = free_RL.shape[1] - 1
    logits_RKL = state.every_position_logits()
    log_place_RKL = _log_softmax(logits_RKL, support_RL)
    inside_RK = log_place_RKL.masked_fill(~free_RL[:, None], -math.inf).logsumexp(dim=-1)
    log_new_RK = log_code_RK + inside_RK
    log_new_R = log_new_RK.logsumexp(dim=-1)
    log_sum_R = torch.logaddexp(log_new_R, log_kept_R)
    new_R = gate_R < (log_new_R - log_sum_R).exp()
    code_R = draw(_safe(log_new_RK, new_R), settings.code, uniform_R2[:, 0])
    logits_RL = logits_RKL.gather(1, code_R[:, None, None].expand(-1, 1, last + 1))[:, 0]
    logits_RL = _safe(logits_RL.masked_fill(~free_RL, -math.inf), new_R)
    position_R = draw(logits_RL, settings.position, uniform_R2[:, 1])
    return code_R, position_R, new_R, log_sum_R


def _log_softmax(logits_RKL: Tensor, support_RL: Tensor) -> Tensor:
    """log p(p | c) over the supported positions, float64."""
    return logits_RKL.double().masked_fill(~support_RL[:, None], -math.inf).log_softmax(dim=-1)


def _safe(logits_RV: Tensor, used_R: Tensor) -> Tensor:
    """Zeros in rows whose draw is not used: they may have no entry to choose."""
    return logits_RV.masked_fill(~used_R[:, None], 0.0)
