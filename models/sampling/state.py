"""The state of a Stackformer while it generates: its caches, and the positions still available.

Shapes: B images, R rows (B, or 2B with guidance: conditioned, then unconditioned), C = N_c, N kept codes,
K codes, L positions, D features, V entries of some vocabulary (K or L).
"""

import math

import torch
from torch import Tensor

from models.base.given import require_conditions
from models.sampling.decoding import can_fuse, decoding_transformer, head
from models.stackformer.config import StackformerConfig
from models.stackformer.model import Stackformer, at_least_fp32
from models.stackformer.support import ascending_support, unused_support
from models.stackformer.transformer import ModernTransformer, Transformer

AHEAD = 256
"""Codes that are looked at together by `every_position_logits`."""


class CachedStackformer:
    """A Stackformer while it generates: returns the next logits, and takes the entries drawn from them.

    Args:
        model: in eval mode; later changes to its weights have no effect.
        batch: B.
        guidance_scale: see `SamplingSettings`.
        bucket: attention reads up to the next multiple of this, masked beyond the sequence.
        kept_as: dtype of keys and values; see `models.sampling.decoding.DecodingBlock`.
        fused: whether to use the kernels of fused.py for single tokens; None uses them if possible.
        looks_ahead: whether `every_position_logits` will be called (only without `fused`, with bucket 1).
    """

    def __init__(
        self,
        model: Stackformer,
        batch: int,
        guidance_scale: float,
        bucket: int = 1,
        kept_as: torch.dtype | None = None,
        fused: bool | None = None,
        looks_ahead: bool = False,
    ) -> None:
        self.model, self.guidance_scale, self.step = model, guidance_scale, 0
        self.fused = can_fuse(transformers_of(model), kept_as) if fused is None else fused
        # fused attention stops at the current place
        self.bucket = model.config.length if self.fused else bucket
        self.guided = guidance_scale != 1 and model.config.condition != "none"
        config, rows = model.config, 2 * batch if self.guided else batch
        self._first = config.condition_length
        length = self._reach(config.length)
        self._code_transformer = decoding_transformer(
            model.code_transformer, rows, length, kept_as, self.fused
        )
        self._code_head = head(model.code_head, rows, self.fused)
        if config.network.position_layers:
            self._ahead = min(AHEAD, config.num_codes) if looks_ahead else 0
            length = self._reach(config.num_kept) + self._ahead
            self._position_transformer = decoding_transformer(
                model.position_transformer, rows, length, kept_as, self.fused
            )
            self._position_head = head(model.position_head, rows, self.fused)
        weight = model.e_c.weight
        self.step_1 = torch.zeros(1, dtype=torch.int64, device=weight.device)
        self._h_c_RD = weight.new_zeros(rows, weight.shape[1])
        self._sos = config.num_positions
        self._place_R1 = torch.full((rows, 1), self._sos, device=weight.device)
        self._all = self._h_c_RD, self._place_R1

    def start(self, condition_BC: Tensor) -> None:
        """Begin new sequences from conditions, int64 [B, N_c]; ValueError if one is not in 0 … null code."""
        config = self.model.config
        require_conditions(condition_BC, config.condition_length, config.null_code)
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

    def keep(self, rows_B: Tensor | None) -> None:
        """Keep some of the images, in this order, when the others are finished; None brings all rows back, for a new batch."""
        rows_R = rows_B
        if rows_B is not None and self.guided:
            rows_R = torch.cat([rows_B, rows_B + len(self._h_c_RD) // 2])
        self._code_transformer.keep(rows_R)
        if self.model.config.network.position_layers:
            self._position_transformer.keep(rows_R)
        self._h_c_RD, self._place_R1 = (
            whole if rows_R is None else part.index_select(0, rows_R)
            for whole, part in zip(self._all, (self._h_c_RD, self._place_R1), strict=True)
        )

    def stop_logits(self) -> Tensor:
        """Log odds of ending before the next code, [B], of the conditioned rows: guidance is not for lengths."""
        rows = len(self._h_c_RD) // (2 if self.guided else 1)
        return at_least_fp32(self.model.stop_head(self._h_c_RD[:rows])[:, 0])

    def code_logits(self) -> Tensor:
        """Logits of the next code, [B, K], after guidance."""
        return self._guide(self._code_head(self._h_c_RD))

    def position_logits(self, code_B: Tensor) -> Tensor:
        """Logits of that code's position, [B, L], after guidance, before the support mask.

        The last call of a step is what later steps attend to.
        """
        if not self.model.config.network.position_layers:
            return self._raster_logits()
        u_p_R1D = self._h_c_RD[:, None] + self.model.e_c(self._rows(code_B))  # (12)
        _, reach = self.reaches(self.step)
        mask = self._mask(self.step_1, reach)
        h_p_R1D = self._position_transformer(u_p_R1D, self._place_R1, self.step_1, reach, mask)
        return self._guide(self._position_head(h_p_R1D[:, 0]))

    def every_position_logits(self) -> Tensor:
        """Logits of the position of each code that may come now, [B, K, L], after guidance, before the support mask.

        Codes lie side by side behind the past in the cache, and each attends to the past and to itself.
        """
        config, weight = self.model.config, self.model.e_c.weight
        if not config.network.position_layers:
            return self._raster_logits()[:, None].expand(-1, config.num_codes, -1)
        parts = []
        for codes_KD in weight[: config.num_codes].split(self._ahead):
            many = len(codes_KD)
            u_p_RKD = self._h_c_RD[:, None] + codes_KD  # (12)
            seen_S = torch.arange(self.step + many, device=weight.device)
            time_K = seen_S[self.step :]
            mask_KS = (seen_S < self.step) | (seen_S == time_K[:, None])
            place_RK = self._place_R1.expand(-1, many)
            h_p_RKD = self._position_transformer(u_p_RKD, place_RK, time_K, len(seen_S), mask_KS)
            parts.append(self._position_head(h_p_RKD))
        return self._guide(torch.cat(parts, dim=1))

    def _raster_logits(self) -> Tensor:
        """Positions if all cells are kept: code n has position n, [B, L]."""
        rows = len(self._h_c_RD) // (2 if self.guided else 1)
        logits_BL = self._h_c_RD.new_full((rows, self.model.config.num_positions), -math.inf)
        logits_BL[:, self.step] = 0.0
        return at_least_fp32(logits_BL)

    def remember(self, code_B: Tensor) -> None:
        """Put the code that was taken into the Position-Transformer's cache, over those that were only looked at."""
        if self.model.config.network.position_layers:
            self.position_logits(code_B)

    def advance(self, code_B: Tensor, position_B: Tensor) -> None:
        """Advance to the next step."""
        time_1, (reach, _) = self.step_1 + self._first, self.reaches(self.step + 1)
        times_1D = self.model.e_t(time_1)
        self._place_R1.copy_(self._rows(position_B))
        u_c_R1D = self.model.embed(self._rows(code_B), self._place_R1, times_1D)  # (10)
        mask = self._mask(time_1, reach)
        self._h_c_RD.copy_(self._code_transformer(u_c_R1D, self._place_R1, time_1, reach, mask)[:, 0])
        self.step += 1
        self.step_1 += 1

    def reaches(self, step: int) -> tuple[int, int]:
        """The number of places that attention reads at a step, in the Code- and the Position-Transformer."""
        return self._reach(step + self._first), self._reach(step + 1)

    def _reach(self, length: int) -> int:
        return -(-length // self.bucket) * self.bucket

    def _mask(self, time_1: Tensor, reach: int) -> Tensor | None:
        return (
            None
            if self.fused or self.bucket == 1
            else (torch.arange(reach, device=time_1.device) <= time_1)[None]
        )

    def _rows(self, value_B: Tensor) -> Tensor:
        """Repeat a value for an image's conditional and unconditional rows: [B] → [R, 1]."""
        return (value_B.repeat(2) if self.guided else value_B)[:, None]

    def _guide(self, logits_RV: Tensor) -> Tensor:
        if not self.guided:
            return at_least_fp32(logits_RV)
        conditioned_BV, null_BV = at_least_fp32(logits_RV).chunk(2)
        return null_BV + self.guidance_scale * (conditioned_BV - null_BV)


def transformers_of(model: Stackformer) -> list[Transformer | ModernTransformer]:
    """The model's transformers: one or both."""
    found = [model.code_transformer]
    return [*found, model.position_transformer] if model.config.network.position_layers else found


class PositionMemory:
    """The positions that the next step may take, per image."""

    def __init__(self, config: StackformerConfig, batch: int, device: torch.device) -> None:
        self.config = config
        self.step_1 = torch.zeros(1, dtype=torch.int64, device=device)
        self.previous_B1 = torch.zeros(batch, 1, dtype=torch.int64, device=device)
        self._used_at_BL = torch.zeros(batch, config.num_positions, dtype=torch.int64, device=device)
        self.start()

    def start(self) -> None:
        """Begin new sequences."""
        self.step_1.zero_()
        self.previous_B1.fill_(-1)
        self._used_at_BL.fill_(self.config.num_kept)

    def support(self) -> Tensor:
        """Bool [B, L]; see `Stackformer.support`."""
        config = self.config
        if config.network.position_support == "ascending":
            return ascending_support(self.previous_B1, self.step_1, config.num_kept, config.num_positions)[
                :, 0
            ]
        return unused_support(self._used_at_BL, self.step_1)[:, 0]

    def take(self, position_B: Tensor) -> None:
        """Remember the step's positions and advance to the next step."""
        self.previous_B1.copy_(position_B[:, None])
        self._used_at_BL.scatter_(1, self.previous_B1, self.step_1.expand(len(position_B), 1))
        self.step_1 += 1
