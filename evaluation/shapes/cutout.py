"""Separates a picture's object from its background by colour: the share of each pixel that the object covers.

The model: an object of one colour F in front of a background B(x, y), a plane of colour over the picture with covariance Σ. A
pixel is p = a F + (1 - a) B, and its share a = w·(p - B) / w·(F - B) is measured along Fisher's direction w = Σ⁻¹ (F - B), which
ignores the background's own variation (shading, texture). B and Σ are first estimated from the picture's frame and F from the
pixels least like it; then each is estimated again from the last round's background and object.
"""

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]
Floats = NDArray[np.float32]

ROUNDS = 5
SEED_SHARE = 0.06
"""Share of the pixels for the first estimate of the object's colour: half of the smallest object."""
BACKGROUND_BELOW, OBJECT_ABOVE = 0.25, 0.8
LEVELS = 4.0
"""Standard deviation added to the background's, in levels of 255, because a plain background has none."""


def cut_out(images: Images) -> Floats:
    """The share of each pixel that the object covers, by colour; about 0 … 1, not clipped.

    Args:
        images: uint8 [B, H, W, 3].

    Returns:
        float32 [B, H, W]; finite for any picture, but meaningless if all pixels are equal.
    """
    count, height, width, _ = images.shape
    pixels = images.reshape(count, -1, 3).astype(np.float32)
    basis, frame = _plane(height, width)
    background = np.broadcast_to(frame, pixels.shape[:2])
    colour = None
    for _ in range(ROUNDS):
        painted = _fitted_plane(pixels, basis, background)
        unlike = pixels - painted
        precision = np.linalg.inv(_scatter(unlike, background))
        if colour is None:
            colour = _mean(pixels, _most_unlike(unlike, precision))
        away = colour[:, None] - painted
        direction = np.einsum("bij,bj->bi", precision, away.mean(axis=1))
        share = _ratio(np.einsum("bni,bi->bn", unlike, direction), np.einsum("bni,bi->bn", away, direction))
        background = (share < BACKGROUND_BELOW).astype(np.float32) + 1e-4
        colour = _mean(pixels, (share > OBJECT_ABOVE).astype(np.float32) + 1e-4)
    return share.reshape(count, height, width).astype(np.float32)


def _plane(height: int, width: int) -> tuple[Floats, Floats]:
    """The functions 1, x, y on [-1, 1] at each pixel [H W, 3], and whether each pixel is in the frame [H W]."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    edge = np.minimum(np.minimum(x, width - 1 - x), np.minimum(y, height - 1 - y)).ravel()
    basis = np.stack([np.ones_like(x), (2 * x + 1) / width - 1, (2 * y + 1) / height - 1], axis=-1)
    return basis.reshape(-1, 3), (edge < max(1.0, width / 16)).astype(np.float32)


def _fitted_plane(pixels: Floats, basis: Floats, weights: Floats) -> Floats:
    """The least-squares plane of colour of the weighted pixels, [B, n, 3]; its slopes shrink slightly, so it always exists."""
    weighted = weights[..., None] * basis
    gram = weighted.transpose(0, 2, 1) @ basis
    gram += weights.sum(axis=1)[:, None, None] * np.diag(np.array([1e-6, 1e-3, 1e-3], np.float32))
    plane: Floats = basis @ np.linalg.solve(gram, weighted.transpose(0, 2, 1) @ pixels)
    return plane


def _scatter(unlike: Floats, weights: Floats) -> Floats:
    """Covariance of the weighted pixels around the plane, [B, 3, 3]."""
    found = (weights[..., None] * unlike).transpose(0, 2, 1) @ unlike
    scatter: Floats = found / weights.sum(axis=1)[:, None, None] + LEVELS**2 * np.eye(3, dtype=np.float32)
    return scatter


def _most_unlike(unlike: Floats, precision: Floats) -> Floats:
    """1 for the `SEED_SHARE` of pixels farthest from the background (Mahalanobis), else 0; [B, n]."""
    distance = np.einsum("bni,bni->bn", unlike @ precision, unlike)
    wanted = max(4, int(SEED_SHARE * distance.shape[1]))
    least = np.partition(distance, -wanted, axis=1)[:, -wanted]
    return (distance >= least[:, None]).astype(np.float32)


def _mean(pixels: Floats, weights: Floats) -> Floats:
    mean: Floats = np.einsum("bn,bni->bi", weights, pixels) / weights.sum(axis=1)[:, None]
    return mean


def _ratio(part: Floats, whole: Floats) -> Floats:
    """part ÷ whole, finite even if the object has the background's colour."""
    least = 1e-3 * np.abs(whole).max(axis=1, keepdims=True) + 1e-6
    ratio: Floats = part / np.maximum(whole, least)
    return ratio
