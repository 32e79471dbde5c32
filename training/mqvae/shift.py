"""Random offsets under the perceptual loss, so that it sees every pixel alike (not in the paper).

LPIPS's networks halve their grids by strides: SqueezeNet 1.1 looks at an image through windows every 2, 4, 8 and 16 pixels, in
places that never change, and at the last row and column of 64 not at all. To that raster all cells of the decoder's grid are
alike, so the decoder learns a texture that is right in these places only: a grid of fine dots (figures in docs/log.md). Moved by
0 … m pixels, m + 1 the side of a cell, no place within a cell is looked at more than another. Reflections keep the borders in
view, and pictures of one size whatever the offset.

Shapes: B images, C channels, H and W pixels, m the largest offset.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from workspace.exact.seeds import hashed


def offsets(seeds: Sequence[int], most: int) -> list[tuple[int, int]]:
    """How far each image is moved down and right, 0 … `most` with equal probability; one depends only on its seed."""
    numbers = [hashed(seed, "shift") for seed in seeds]
    return [(number % (most + 1), number // (most + 1) % (most + 1)) for number in numbers]


def shifted(image_BCHW: Tensor, places: Sequence[tuple[int, int]], most: int) -> Tensor:
    """Images moved down and right within a frame of their reflections: [B, C, H, W] → [B, C, H + most, W + most].

    Args:
        image_BCHW: any values; H and W more than `most`.
        places: how far each is moved.
        most: the largest offset.
    """
    moved = [
        _framed(_framed(image_CHW, 1, down, most - down), 2, right, most - right)
        for image_CHW, (down, right) in zip(image_BCHW, places, strict=True)
    ]
    return torch.stack(moved)


def _framed(image_CHW: Tensor, axis: int, before: int, after: int) -> Tensor:
    """Reflections on both sides of an axis, as F.pad's, whose gradient on a GPU varies from run to run."""
    size = image_CHW.shape[axis]
    first = image_CHW.narrow(axis, 1, before).flip(axis)
    last = image_CHW.narrow(axis, size - 1 - after, after).flip(axis)
    return torch.cat([first, image_CHW, last], dim=axis)
