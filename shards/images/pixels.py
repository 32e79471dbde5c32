"""Pixels (uint8, 0 … 255) ↔ network inputs and outputs (floats in [-1, 1]). No other module converts between the two.

Shapes: B images, C = 3, H and W pixels.
"""

from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Floats = TypeVar("Floats", "NDArray[np.float32]", "Tensor")
HALF = 127.5


def _scaled(values: Floats) -> Floats:
    """Floats 0 … 255 → [-1, 1], in place: the same two operations in numpy and on any device, hence the same bits."""
    values /= HALF
    values -= 1
    return values


def to_float(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """uint8 [..., H, W, 3] → float32 [..., 3, H, W] in [-1, 1]."""
    return _scaled(np.ascontiguousarray(np.moveaxis(image, -1, -3), np.float32))


def to_tensor(images: NDArray[np.uint8], device: "torch.device") -> "Tensor":
    """uint8 [B, H, W, 3] → float32 [B, 3, H, W] in [-1, 1] on a device: equal to `to_float`, channels last in memory.

    Bytes are sent to the device and scaled there, which moves a quarter as much as floats would.

    Raises:
        ValueError: another dtype or shape: floats have a range of their own, and one image needs `image[None]`.
    """
    import torch

    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        hint = "; one image is image[None]" if images.ndim == 3 else ""
        raise ValueError(f"images are {images.dtype} {list(images.shape)}, expected uint8 [B, H, W, 3]{hint}")
    if not images.flags.writeable:
        images = images.copy()  # torch warns of memory that it cannot write to
    image_BHWC = torch.from_numpy(np.ascontiguousarray(images)).to(device)
    return _scaled(image_BHWC.permute(0, 3, 1, 2).float())


def to_uint8(image: "NDArray[np.floating] | Tensor") -> NDArray[np.uint8]:
    """float [..., 3, H, W] in [-1, 1], clamped → uint8 [..., H, W, 3]; the inverse of `to_float`.

    An array, or a tensor of any dtype on any device.
    """
    if not isinstance(image, np.ndarray):
        image = image.detach().float().cpu().numpy()
    pixels = np.rint((np.clip(image, -1, 1) + 1) * HALF).astype(np.uint8)
    return np.ascontiguousarray(np.moveaxis(pixels, -3, -1))
