"""Rules that choose cells without learning: the baselines that a learned choice (Eq. 2-4) has to beat.

Each ranks all L cells of an image, so its choices are nested: the best N cells are among the best N + 1. Cells of equal rank (a
plain background) are ordered like the checkerboard, because raster order would keep the top of the picture.

Shapes: B images, C = 3 channels, H and W pixels, L = side² cells of the grid.
"""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

FixedKind = Literal["checkerboard", "gradient", "entropy"]
FIXED: tuple[str, ...] = get_args(FixedKind)
LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue (ITU-R BT.601)."""
LEVELS = 32
"""Number of histogram bins for the entropy."""
WINDOW = 8
"""Smallest window for an entropy, in pixels per side, because a cell of 2 × 2 pixels has hardly any."""


def fixed_ranking(kind: str, image_BCHW: Tensor, side: int) -> Tensor:
    """Rank the cells of each image.

    Args:
        kind: one of `FIXED`.
        image_BCHW: in [-1, 1]; H and W are multiples of `side`.
        side: cells per side of the grid.

    Returns:
        Ranks [B, L] in (0, 1), all different within an image; the highest is kept first. Float32, or float64 like the image.
    """
    spread_L = dithered(side).to(image_BCHW.device)
    if kind == "checkerboard":
        value_BL = spread_L.expand(len(image_BCHW), -1)
    else:
        value_BL = (cell_gradient if kind == "gradient" else cell_entropy)(image_BCHW, side)
    return ranks(value_BL, spread_L).to(torch.promote_types(image_BCHW.dtype, torch.float32))


def dithered(side: int) -> Tensor:
    """Values [L] that spread the best N cells evenly for every N (Bayer's ordered dither): the better half is a checkerboard,
    the best quarter every other cell of every other row. int64, all different; the highest comes first."""
    matrix_SS = torch.zeros(1, 1, dtype=torch.int64)
    while len(matrix_SS) < side:
        top_SS = torch.cat([4 * matrix_SS, 4 * matrix_SS + 2], dim=1)
        matrix_SS = torch.cat([top_SS, torch.cat([4 * matrix_SS + 3, 4 * matrix_SS + 1], dim=1)])
    return -matrix_SS[:side, :side].reshape(-1)


def ranks(value_BL: Tensor, then_L: Tensor) -> Tensor:
    """(place + ½) / L of each cell, ordered by `value_BL` and then `then_L`; the highest value has the highest rank."""
    length = len(then_L)
    order_L = then_L.argsort(stable=True)
    order_BL = order_L[value_BL[:, order_L].argsort(dim=-1, stable=True)]
    places_L = (torch.arange(length, device=value_BL.device) + 0.5) / length
    return torch.empty_like(order_BL, dtype=places_L.dtype).scatter(1, order_BL, places_L.expand_as(order_BL))


def cell_gradient(image_BCHW: Tensor, side: int) -> Tensor:
    """Mean |∇ luma| of each cell, [B, L] ≥ 0, luma in [0, 1]: `evaluation.masks.gradient_magnitude` on tensors."""
    down_BHW, right_BHW = torch.gradient(_luma(image_BCHW), dim=(1, 2))
    return _cells(F.avg_pool2d(torch.hypot(down_BHW, right_BHW), image_BCHW.shape[-1] // side))


def cell_entropy(image_BCHW: Tensor, side: int) -> Tensor:
    """Shannon entropy of luma, [B, L] nats in 0 … ln `LEVELS`: over each cell's pixels, or over the `WINDOW` around it if cells
    are smaller (pixels outside the image do not count)."""
    cell = image_BCHW.shape[-1] // side
    border = max(0, -(-(WINDOW - cell) // 2))
    bins_BHW = (_luma(image_BCHW) * LEVELS).long().clamp_(0, LEVELS - 1)
    entropy_BHW: Tensor | None = None
    # level by level, because a one-hot image of all levels would take LEVELS times the memory
    for level in range(LEVELS):
        hit_BHW = (bins_BHW == level).to(image_BCHW.dtype)
        share_BHW = F.avg_pool2d(hit_BHW, cell + 2 * border, cell, border, count_include_pad=False)
        part_BHW = -torch.xlogy(share_BHW, share_BHW)
        entropy_BHW = part_BHW if entropy_BHW is None else entropy_BHW + part_BHW
    assert entropy_BHW is not None
    return _cells(entropy_BHW)


def _luma(image_BCHW: Tensor) -> Tensor:
    """Luma [B, H, W] in [0, 1]."""
    red_BHW, green_BHW, blue_BHW = ((image_BCHW + 1) / 2).unbind(1)
    return LUMA[0] * red_BHW + LUMA[1] * green_BHW + LUMA[2] * blue_BHW


def _cells(grid_BHW: Tensor) -> Tensor:
    return grid_BHW.flatten(1)
