"""Sampling from a Stackformer (paper section 3.3, Algorithm 1), with one token per step through each transformer (decoding.py).

Each step draws a code from the Code-Transformer and then its position from the Position-Transformer. Guidance
combines the raw logits (state.py), then comes the support mask, then temperature and truncation (choice.py).

Shapes: B images, C = N_c, N kept codes, L positions.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from models.base.given import require_conditions, whole_numbers
from models.sampling.capture import StepGraphs
from models.sampling.choice import draw, draw_uniform
from models.sampling.sampled import Sampled, SamplingSettings
from models.sampling.state import CachedStackformer, PositionMemory
from models.sampling.stopping import StoppingSampler
from models.stackformer.model import Stackformer

Draw = Callable[[Tensor, Tensor], Tensor]
"""Logits [B, V] and uniform numbers [B] → an entry per row."""
BUCKET = 64
"""Bucket size for CUDA graphs: attention reads up to the next multiple of this under a mask, with one graph per multiple."""


class Sampler:
    """Algorithm 1 for batches of one size; repacks weights, allocates caches and, on a GPU, captures steps only once.

    Args:
        model: in eval mode, on any device, in any precision; later changes to its weights have no effect.
        batch: B.
        settings: guidance and truncation.
        bucket: see `CachedStackformer`; None uses the fastest on the device.
        kept_as: see `CachedStackformer`.
        capture: whether steps are captured as CUDA graphs; None does so on a GPU.
        fused: see `CachedStackformer`.

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
        fused: bool | None = None,
    ) -> None:
        if model.training:
            raise ValueError("expected eval mode, the model is in training mode")
        if model.config.stops:
            raise ValueError(
                "sequences of this model end by themselves, which is not captured: take StoppingSampler"
            )
        self.config, self.settings, self.batch = model.config, settings, batch
        self.device = model.e_c.weight.device
        on_gpu = self.device.type == "cuda"
        self._state = CachedStackformer(
            model, batch, settings.guidance_scale, bucket or (BUCKET if on_gpu else 1), kept_as, fused
        )
        self._memory = PositionMemory(model.config, batch, self.device)
        self._draw_code, self._draw_position = self._drawers()
        kept = model.config.num_kept
        self._uniform_BN2 = torch.zeros(batch, kept, 2, dtype=torch.float64, device=self.device)
        self._codes_BN = torch.zeros(batch, kept, dtype=torch.int64, device=self.device)
        self._positions_BN = self._codes_BN.clone()
        self._graphs = StepGraphs(self.device) if (on_gpu if capture is None else capture) else None

    def _drawers(self) -> tuple[Draw, Draw]:
        """The functions that draw codes, and positions among the supported ones."""
        code, position = self.settings.code, self.settings.position
        plain: tuple[Draw, Draw] = (
            lambda logits_BK, uniform_B: draw(logits_BK, code, uniform_B),
            self._draw_supported,
        )
        if not self._state.fused:
            return plain
        from models.sampling.draw_kernels import MOST_ENTRIES, FusedDraw

        config, memory, found = self.config, self._memory, list[Draw](plain)
        if config.num_codes <= MOST_ENTRIES:
            found[0] = FusedDraw(code.temperature, code.top_k, code.top_p, config.num_codes, self.device)
        if config.num_positions <= MOST_ENTRIES and config.network.position_support == "ascending":
            highest = config.num_positions - config.num_kept
            place = FusedDraw(
                position.temperature,
                position.top_k,
                position.top_p,
                config.num_positions,
                self.device,
                highest,
            )
            found[1] = partial(place, previous_B=memory.previous_B1, step_1=memory.step_1)
        return found[0], found[1]

    def _draw_supported(self, logits_BL: Tensor, uniform_B: Tensor) -> Tensor:
        logits_BL = logits_BL.masked_fill(~self._memory.support(), -math.inf)
        return draw(logits_BL, self.settings.position, uniform_B)

    def __call__(self, condition_BC: Tensor, seeds: Sequence[int]) -> Sampled:
        """Draw one image per condition.

        Args:
            condition_BC: int64, one row per image.
            seeds: one per image; an image's noise depends only on its seed.

        Raises:
            ValueError: the number of seeds or of conditions is not `batch`.
        """
        self.start(condition_BC, seeds)
        for step in range(1, self.config.num_kept):
            self.go_on(step)
        # copies, because the next batch writes into the same tensors, whose addresses are in the captured steps
        return Sampled(self._codes_BN.clone(), self._positions_BN.clone())

    @torch.no_grad()
    def start(self, condition_BC: Tensor, seeds: Sequence[int]) -> None:
        """Begin new images and draw their first codes; see `__call__`."""
        if not len(seeds) == len(condition_BC) == self.batch:
            raise ValueError(
                f"expected one seed and one condition per image, {self.batch} each: {len(seeds)} seeds, "
                f"{len(condition_BC)} conditions"
            )
        self._uniform_BN2.copy_(draw_uniform(seeds, self.config.num_kept))
        self._memory.start()
        self._state.start(condition_BC.to(self.device))
        self._choose()

    @torch.no_grad()
    def go_on(self, step: int) -> None:
        """Draw code number `step` of each image; on a GPU the first step of each reach is captured and then replayed."""
        if self._graphs is None:
            self._advance_and_choose()
            return
        self._graphs.run(self._state.reaches(step), self._advance_and_choose, partial(self._rewind, step))
        self._state.step = step

    @property
    def captures(self) -> bool:
        """Whether steps are captured as CUDA graphs; False after a failure."""
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
        code_B = self._draw_code(state.code_logits(), uniform_B2[:, 0])
        self._codes_BN.index_copy_(1, step_1, code_B[:, None])
        if not self.config.network.position_layers:
            self._positions_BN.index_copy_(1, step_1, step_1.expand(self.batch, 1))
            return
        position_B = self._draw_position(state.position_logits(code_B), uniform_B2[:, 1])
        self._memory.take(position_B)
        self._positions_BN.index_copy_(1, step_1, position_B[:, None])


def sample(
    model: Stackformer, condition_BC: Tensor, seeds: Sequence[int], settings: SamplingSettings
) -> Sampled:
    """Sample one batch with a new sampler, whose arguments these are.

    Raises:
        ValueError: a condition or a seed that the model cannot take, or numbers of them that differ.
    """
    seeds = whole_numbers(seeds)
    require_conditions(condition_BC, model.config.condition_length, model.config.null_code)
    if model.config.stops:
        return StoppingSampler(model, len(seeds), settings)(condition_BC, seeds)
    return Sampler(model, len(seeds), settings)(condition_BC, seeds)
