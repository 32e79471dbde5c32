"""A choice of the N best cells that passes a gradient to the scores of all L (not in the paper).

With Eq. 3 alone only the scores of kept cells get a gradient. Here the forward pass keeps exactly the N best, and the backward
pass sees a relaxed choice p (straight-through): with v_l a cell's features and m the mask code

    p_l = σ(y_l - t)          y: the scores' logits, in standard deviations within the image, and any noise
    ∂loss/∂p_l = ⟨∂loss/∂grid_l, v_l - m⟩

t is halfway between the last cell that is kept and the first that is not. It moves with y so that Σ p does not: raising all
scores by as much changes nothing, as it changes nothing in the choice. With Gumbel noise in y the N best are a sample without
replacement (Gumbel top-k; Kool et al. 2019).

Shapes: B images, L cells of the grid, D features.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Relaxed:
    """The relaxed choice, for the backward pass.

    Attributes:
        choice_BL: p in (0, 1), with a gradient.
        cells_BLD: what each cell would put into the grid if it were kept; constants.
    """

    choice_BL: Tensor
    cells_BLD: Tensor

    def through(self, grid_BLD: Tensor, mask_code_D: Tensor) -> Tensor:
        """The same grid, equal in value, whose gradient also reaches the choice."""
        zero_BL1 = (self.choice_BL - self.choice_BL.detach())[..., None].to(grid_BLD.dtype)
        return grid_BLD + zero_BL1 * (self.cells_BLD - mask_code_D).detach().to(grid_BLD.dtype)


def relaxed_choice(y_BL: Tensor, kept_B: Tensor) -> Tensor:
    """p [B, L] of the `kept_B[b]` best cells of image b, int64 in 1 … L; ones where all are kept."""
    length = y_BL.shape[1]
    sorted_BL = y_BL.detach().sort(dim=-1, descending=True).values
    last_B1, next_B1 = (
        sorted_BL.gather(1, index_B.clamp_max(length - 1)[:, None]) for index_B in (kept_B - 1, kept_B)
    )
    threshold_B1 = (last_B1 + next_B1) / 2
    slope_BL = (y_BL.detach() - threshold_B1).sigmoid()
    slope_BL = slope_BL * (1 - slope_BL)
    moves_B1 = (slope_BL * y_BL).sum(-1, keepdim=True) / slope_BL.sum(-1, keepdim=True).clamp_min(1e-12)
    choice_BL = (y_BL - threshold_B1 - (moves_B1 - moves_B1.detach())).sigmoid()
    return torch.where(kept_B[:, None] < length, choice_BL, torch.ones_like(choice_BL))


def gumbel_ranking(seeds: Sequence[int], num_positions: int) -> Tensor:
    """Standard Gumbel numbers [B, L], float32; row b depends only on `seeds[b]` (0 ≤ seed < 2⁶³)."""
    rows = [
        torch.empty(num_positions).exponential_(generator=torch.Generator().manual_seed(seed))
        for seed in seeds
    ]
    # an exponential number may be 0, whose logarithm is not finite
    return -torch.stack(rows).clamp_min(torch.finfo(torch.float32).tiny).log()
