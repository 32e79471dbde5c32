"""How the perceptual loss looks at a pair of pictures: enlarged, in part, at a random offset (not in the paper).

LPIPS's networks halve their grids by strides: SqueezeNet 1.1 looks at an image through windows every 2, 4, 8 and 16 pixels, in
places that never change, and at the last row and column of 64 not at all. To that raster all cells of the decoder's grid are
alike, so the decoder learns a texture that is right in these places only: a grid of fine dots. And its features were learned
from photographs of 224 pixels, where what is a pixel in a picture of 64 would be a block: at 1:1 they reward cracks, which they
find wrong in the same picture enlarged (figures in docs/log.md).

So each picture is enlarged s times, moved by 0 … m pixels, and one of its s × s parts is compared. Over many draws all parts
count alike; reflections keep the borders in view, and all views have one size, about that of the picture itself.

Shapes: B images, C channels, H and W pixels, s the scale, m the largest offset.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from workspace.exact.seeds import hashed


@dataclass(frozen=True)
class View:
    """What of an image is looked at.

    Attributes:
        row, column: which of the s × s parts (0 … s - 1).
        down, right: by how many pixels of the enlarged image it is moved (0 … m).
    """

    row: int
    column: int
    down: int
    right: int


def views(seeds: Sequence[int], scale: int, most: int) -> list[View]:
    """A view per image, all equally probable; one depends only on its seed."""
    parts = [divmod(hashed(seed, "window") % scale**2, scale) for seed in seeds]
    offsets = [hashed(seed, "shift") for seed in seeds]
    return [
        View(row, column, offset % (most + 1), offset // (most + 1) % (most + 1))
        for (row, column), offset in zip(parts, offsets, strict=True)
    ]


def seen(image_BCHW: Tensor, chosen: Sequence[View], scale: int, most: int) -> Tensor:
    """What the views show: [B, C, H, W] → [B, C, H + m, W + m]; with scale 1 and m = 0 the images themselves.

    Args:
        image_BCHW: any values; H and W more than `most`.
        chosen: one per image.
        scale: s.
        most: m.
    """
    if scale == 1 and not most:
        return image_BCHW
    height, width = image_BCHW.shape[2:]
    if scale > 1:
        image_BCHW = F.interpolate(image_BCHW, scale_factor=scale, mode="bilinear")
    return torch.stack(
        [
            _part(
                _part(image_CHW, 1, view.row, height, view.down, most),
                2,
                view.column,
                width,
                view.right,
                most,
            )
            for image_CHW, view in zip(image_BCHW, chosen, strict=True)
        ]
    )


def _part(image_CHW: Tensor, axis: int, number: int, length: int, moved: int, most: int) -> Tensor:
    """`length + most` pixels along an axis, from the part's beginning in the picture framed by its reflections.

    The frame is as F.pad's; the gradient of that one varies from run to run on a GPU.
    """
    size, after = image_CHW.shape[axis], most - moved
    first = image_CHW.narrow(axis, 1, moved).flip(axis)
    last = image_CHW.narrow(axis, size - 1 - after, after).flip(axis)
    return torch.cat([first, image_CHW, last], dim=axis).narrow(axis, number * length, length + most)
