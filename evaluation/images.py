"""Pixel-wise similarity of reconstructed images and their originals.

Conventions: uint8 images [B, H, W, 3] are scaled to [0, 1]; every function returns one float64 number per image, [B]; a data
set's score is their mean (so PSNR is a mean of decibels, not the decibels of a mean).
"""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

Images = NDArray[np.uint8]
Floats = NDArray[np.float64]

CONVENTION = "RGB in [0, 1]; one number per image, then the mean over images"
LOWEST_MSE = 1e-10
"""Equal images get 100 dB instead of infinity."""
WINDOW, SIGMA = 11, 1.5


def l1(a: Images, b: Images) -> Floats:
    """Mean absolute difference, in [0, 1]."""
    return np.abs(_unit(a) - _unit(b)).mean(axis=(1, 2, 3))


def psnr(a: Images, b: Images) -> Floats:
    """-10 log₁₀ MSE, decibels at a peak of 1; at most 100."""
    mse = ((_unit(a) - _unit(b)) ** 2).mean(axis=(1, 2, 3))
    return -10 * np.log10(np.maximum(mse, LOWEST_MSE))


def ssim(a: Images, b: Images) -> Floats:
    """Structural similarity (Wang et al. 2004), in [-1, 1].

    (2 μ₁μ₂ + c₁)(2 σ₁₂ + c₂) / ((μ₁² + μ₂² + c₁)(σ₁² + σ₂² + c₂)) with c₁ = 0.01², c₂ = 0.03², in 11-pixel
    Gaussian windows (σ 1.5) without padding, averaged over positions and channels.

    Raises:
        ValueError: images smaller than the window.
    """
    if min(a.shape[1:3]) < WINDOW:
        raise ValueError(f"SSIM of {a.shape[1]}×{a.shape[2]} images; its window has {WINDOW} pixels per side")
    x, y = (torch.from_numpy(_unit(images)).permute(0, 3, 1, 2).flatten(0, 1)[:, None] for images in (a, b))
    mean_x, mean_y = _blur(x), _blur(y)
    var_x, var_y = _blur(x * x) - mean_x**2, _blur(y * y) - mean_y**2
    covariance = _blur(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    places = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    places = places / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    similarity: Floats = places.reshape(len(a), -1).mean(dim=1).numpy()
    return similarity


def _blur(x: Tensor) -> Tensor:
    """Gaussian mean of every window: [n, 1, H, W] → [n, 1, H - 10, W - 10]."""
    offsets = torch.arange(WINDOW, dtype=x.dtype) - WINDOW // 2
    weights = torch.exp(-(offsets**2) / (2 * SIGMA**2))
    weights = weights / weights.sum()
    return F.conv2d(F.conv2d(x, weights.reshape(1, 1, -1, 1)), weights.reshape(1, 1, 1, -1))


def _unit(images: Images) -> Floats:
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        raise ValueError(f"images are {images.dtype} {images.shape}, expected uint8 [B, H, W, 3]")
    return images.astype(np.float64) / 255
