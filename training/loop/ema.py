"""An exponential moving average of a model's weights, which is what gets published and validated."""

import copy

import torch
from torch import nn

from training.loop.parallel import local


def decay_at(step: int, decay: float) -> float:
    """The decay with warm-up: min(decay, (1 + step) / (10 + step))."""
    return min(decay, (1 + step) / (10 + step))


class Ema:
    """Maintains `model`, an average of `source`'s parameters; buffers (the codebook, itself an EMA) are copied."""

    def __init__(self, source: nn.Module, decay: float) -> None:
        self.source, self.decay = source, decay
        self.model = copy.deepcopy(source).eval().requires_grad_(False)
        self.pair()

    def pair(self) -> None:
        """Look up the weights again, after they were replaced."""
        self._pairs = list(zip(self.model.parameters(), self.source.parameters(), strict=True))

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move towards the source's weights after optimiser step `step` (0-based)."""
        averages, weights = [[local(weight) for weight in part] for part in zip(*self._pairs, strict=True)]
        torch._foreach_lerp_(averages, weights, 1 - decay_at(step, self.decay))
        for average, value in zip(self.model.buffers(), self.source.buffers(), strict=True):
            average.copy_(value)
