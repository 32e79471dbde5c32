"""Sampling sequences that end by themselves: before each code the stop is drawn, and finished images leave the batch.

The stop has its own uniform number and is neither truncated nor guided: top-p would all but forbid it, since it is rare at each
step, and lengths would no longer be those of the data. Rows leave at any step, so no step is captured as a CUDA graph.

Shapes: B images, A of them not finished, C = N_c, N the most codes of an image, L positions.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from models.sampling.choice import draw, draw_uniform
from models.sampling.sampled import Sampled, SamplingSettings
from models.sampling.state import CachedStackformer
from models.stackformer.config import StackformerConfig
from models.stackformer.model import Stackformer
from models.stackformer.support import ascending_support, stop_chance, unused_support


def bounds_of(fewest: int, most: int, codes: tuple[int, int] | None) -> tuple[int, int]:
    """The fewest and the most codes of a sample: a model's own, within those that are asked for.

    Raises:
        ValueError: no number of codes is both.
    """
    low, high = codes or (fewest, most)
    found = max(low, fewest), min(high, most)
    if low > high or found[0] > found[1]:
        raise ValueError(f"codes {low} … {high} are asked for, and the model draws {fewest} … {most}")
    return found


class StoppingSampler:
    """Algorithm 1 with a stop, for batches of one size.

    Args:
        model: in eval mode, with `fewest_kept`; later weight changes have no effect.
        batch: B.
        settings: guidance and truncation.
        kept_as: see `CachedStackformer`.
        codes: the fewest and the most codes of an image; None leaves it to the model.

    Raises:
        ValueError: the model is in training mode, all its images have N codes, or it draws no such number of codes.
    """

    @torch.no_grad()
    def __init__(
        self,
        model: Stackformer,
        batch: int,
        settings: SamplingSettings,
        kept_as: torch.dtype | None = None,
        codes: tuple[int, int] | None = None,
    ) -> None:
        if model.training or not model.config.stops:
            wrong = (
                "is in training mode"
                if model.training
                else f"draws {model.config.num_kept} codes of every image"
            )
            raise ValueError(f"the model {wrong}; expected eval mode, and sequences that end by themselves")
        self.config, self.settings, self.batch = model.config, settings, batch
        self.fewest, self.most = bounds_of(model.config.fewest, model.config.num_kept, codes)
        self.device = model.e_c.weight.device
        self._state = CachedStackformer(model, batch, settings.guidance_scale, kept_as=kept_as, fused=False)

    @torch.no_grad()
    def __call__(self, condition_BC: Tensor, seeds: Sequence[int]) -> Sampled:
        """Draw one image per condition; slots after an image's last code are at L, with code 0.

        Args:
            condition_BC: int64, one row per image.
            seeds: one per image; an image's noise depends only on its seed.

        Raises:
            ValueError: the number of seeds or of conditions is not `batch`.
        """
        if not len(seeds) == len(condition_BC) == self.batch:
            raise ValueError(
                f"expected one seed and one condition per image, {self.batch} each: {len(seeds)} seeds, "
                f"{len(condition_BC)} conditions"
            )
        config, state = self.config, self._state
        # as many numbers as the model may need, whatever was asked for: bounds do not move an image's noise
        uniform_BN3 = draw_uniform(seeds, config.num_kept, 3).to(self.device)
        codes_BN = torch.zeros(self.batch, self.most, dtype=torch.int64, device=self.device)
        positions_BN = torch.full_like(codes_BN, config.num_positions)
        alive_A = torch.arange(self.batch, device=self.device)
        rows = _Rows(config, self.batch, self.fewest, self.device)
        state.keep(None)
        state.start(condition_BC.to(self.device))
        for step in range(self.most):
            uniform_A3 = uniform_BN3[alive_A, step]
            going_A = (~rows.stops(step, state.stop_logits(), uniform_A3[:, 0])).nonzero()[:, 0]
            if len(going_A) < len(alive_A):
                alive_A, uniform_A3 = alive_A[going_A], uniform_A3[going_A]
                if not len(alive_A):
                    break
                state.keep(going_A)
                rows.keep(going_A)
            code_A = draw(state.code_logits(), self.settings.code, uniform_A3[:, 1])
            logits_AL = state.position_logits(code_A).masked_fill(~rows.support(step), -math.inf)
            position_A = draw(logits_AL, self.settings.position, uniform_A3[:, 2])
            codes_BN[alive_A, step], positions_BN[alive_A, step] = code_A, position_A
            rows.take(step, position_A)
            if step + 1 < self.most:
                state.advance(code_A, position_A)
        return Sampled(codes_BN, positions_BN)


class _Rows:
    """What the images that are not finished have taken."""

    def __init__(self, config: StackformerConfig, batch: int, fewest: int, device: torch.device) -> None:
        self.config, self.fewest = config, fewest
        self.previous_A1 = torch.full((batch, 1), -1, device=device)
        self.used_at_AL = torch.full((batch, config.num_positions), config.num_kept, device=device)

    def keep(self, rows_A: Tensor) -> None:
        self.previous_A1, self.used_at_AL = self.previous_A1[rows_A], self.used_at_AL[rows_A]

    def take(self, step: int, position_A: Tensor) -> None:
        self.previous_A1 = position_A[:, None]
        self.used_at_AL.scatter_(1, self.previous_A1, step)

    def stops(self, step: int, logits_A: Tensor, uniform_A: Tensor) -> Tensor:
        """Whether each image ends before this step: bool [A]."""
        step_1 = torch.tensor([step], device=logits_A.device)
        may_A1, must_A1 = stop_chance(self.config, self.previous_A1, step_1, self.fewest)
        return (may_A1[:, 0] & (uniform_A < logits_A.double().sigmoid())) | must_A1[:, 0]

    def support(self, step: int) -> Tensor:
        """Where the step's code may sit: bool [A, L]."""
        step_1 = torch.tensor([step], device=self.previous_A1.device)
        if self.config.network.position_support == "ascending":
            cells = self.config.num_positions
            return ascending_support(self.previous_A1, step_1, self.fewest, cells)[:, 0]
        return unused_support(self.used_at_AL, step_1)[:, 0]
