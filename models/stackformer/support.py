"""Which symbols a step may take: positions, and the stop.

Shapes: B images, M steps, L positions.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from models.stackformer.config import StackformerConfig


def ascending_support(previous_BM: Tensor, step_M: Tensor, num_kept: int, num_positions: int) -> Tensor:
    """Positions from which N ascending ones can still be completed: p_prev < p ≤ L - 1 - (remaining codes); bool [B, M, L].

    Args:
        previous_BM: the position before each step, -1 before the first.
        step_M: the steps, 0 … N-1.
        num_kept: N, or the fewest codes of an image.
        num_positions: L.
    """
    position_L = torch.arange(num_positions, device=previous_BM.device)
    highest_M = num_positions - num_kept + step_M
    return (position_L > previous_BM[..., None]) & (position_L <= highest_M[:, None])


def unused_support(used_at_BL: Tensor, step_M: Tensor) -> Tensor:
    """Positions that no earlier step took; bool [B, M, L].

    Args:
        used_at_BL: the step that took each position; N or more if none did.
        step_M: the steps, 0 … N-1.
    """
    return used_at_BL[:, None, :] >= step_M[:, None]


class StopChance(NamedTuple):
    """Where a sequence may end before a step, and where it must since no cell is left: bool [B, M] each."""

    may_BM: Tensor
    must_BM: Tensor


def stop_chance(config: StackformerConfig, previous_BM: Tensor, step_M: Tensor, fewest: int) -> StopChance:
    """The support of the stop.

    Args:
        config: of the model.
        previous_BM: the position before each step, -1 before the first.
        step_M: the steps, 0 …
        fewest: codes before which it may not end.
    """
    cells, ascending = config.num_positions, config.network.position_support == "ascending"
    must_BM = (previous_BM >= cells - 1) if ascending else (step_M >= cells).expand_as(previous_BM)
    return StopChance((step_M >= fewest).expand_as(previous_BM), must_BM)


def previous_positions(positions_BM: Tensor) -> Tensor:
    """The position before each step, -1 before the first."""
    return F.pad(positions_BM[:, :-1], (1, 0), value=-1)
