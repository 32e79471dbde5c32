"""The scoring network f_s of Eq. 2: the paper's MLP, or the convolutional one of the authors' published code.

    mlp    linear, GELU, linear, on each cell alone
    conv   LayerNorm over the whole grid, 3×3 convolution, ReLU, 1×1 convolution, BatchNorm: a cell is judged by its surroundings

Shapes: B images, L = side² cells of the grid, D features.
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ScorerKind = Literal["mlp", "conv"]
MOMENTUM, EPSILON = 0.1, 1e-5
"""BatchNorm's, as in torch: the share of a new step in the averages, and what is added to the variance."""


def scorer(kind: ScorerKind, dim: int, width: int) -> nn.Module:
    """A network [B, L, D] → logits [B, L, 1]."""
    if kind == "conv":
        return ConvScorer(dim, width)
    return nn.Sequential(nn.Linear(dim, width), nn.GELU(), nn.Linear(width, 1))


class ConvScorer(nn.Module):
    """Scores of cells by their surroundings; the grid is square.

    Args:
        dim: D.
        width: hidden channels.
    """

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.spread = nn.Conv2d(dim, width, 3, padding=1)
        self.judge = nn.Conv2d(width, 1, 1)
        self.norm = ScoreNorm()

    def forward(self, z_BLD: Tensor) -> Tensor:
        """[B, L, D] → logits [B, L, 1]."""
        batch, length, dim = z_BLD.shape
        side = math.isqrt(length)
        z_BLD = F.layer_norm(z_BLD, (length, dim))
        z_BDHW = z_BLD.transpose(1, 2).reshape(batch, dim, side, side)
        logits_BL: Tensor = self.judge(F.relu(self.spread(z_BDHW))).flatten(1)
        scores_BL1: Tensor = self.norm(logits_BL)[..., None]
        return scores_BL1


class ScoreNorm(nn.Module):
    """BatchNorm of one channel whose averages do not depend on how a step's images are split among workers.

    In training a micro-batch is normalised by its own mean and variance, which belong to it (decisions/0019); `settle`
    moves the averages once per step, by the mean over all micro-batches. In eval mode, and where it is frozen, the
    averages are used.
    """

    mean: Tensor
    var: Tensor
    seen_3: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(())), nn.Parameter(torch.zeros(()))
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("var", torch.ones(()))
        # of this step: sums of means and of variances, and how many micro-batches they are of
        self.register_buffer("seen_3", torch.zeros(3), persistent=False)

    def forward(self, logits_BL: Tensor) -> Tensor:
        """The same shape, at least fp32."""
        with torch.autocast(logits_BL.device.type, enabled=False):
            x_BL = logits_BL if logits_BL.dtype == torch.float64 else logits_BL.float()
            mean, var = self.mean, self.var
            if self.training and self.weight.requires_grad:
                mean, var = x_BL.mean(), x_BL.var(correction=0)
                unbiased = var.detach() * (x_BL.numel() / max(1, x_BL.numel() - 1))
                self.seen_3 += torch.stack([mean.detach(), unbiased, torch.ones_like(unbiased)])
            return (x_BL - mean) * torch.rsqrt(var + EPSILON) * self.weight + self.bias

    @torch.no_grad()
    def settle(self, reduce: Callable[[Tensor], Tensor], fine: Tensor) -> None:
        """Move the averages by what this step's micro-batches had, over all workers; not where `fine` is false."""
        mean, var, count = reduce(self.seen_3.clone()).unbind()
        moves = fine & (count > 0)
        for average, total in ((self.mean, mean), (self.var, var)):
            average.copy_(torch.where(moves, average.lerp(total / count.clamp_min(1), MOMENTUM), average))
        self.seen_3.zero_()
