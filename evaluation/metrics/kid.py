"""KID (Bińkowski et al. 2018): squared maximum mean discrepancy of two sets of features, with its standard error, in float64.

Features are [n, D] arrays, one row per image.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SUBSETS, SUBSET = 100, 1000
"""As published: the mean over 100 subsets of 1,000 images, or half of the smaller set if that is less."""


@dataclass(frozen=True)
class KernelDistance:
    """The distance, which may be slightly negative, and its standard error."""

    value: float
    error: float


def kernel_distance(
    a: NDArray[np.floating],
    b: NDArray[np.floating],
    seed: int,
    subsets: int = SUBSETS,
    subset: int = SUBSET,
) -> KernelDistance:
    """Unbiased MMD² with the kernel (x·y / D + 1)³: mean over random subsets of m images of each set.

    The error comes from the subsets' differences, as a delete-d jackknife (Shao & Wu 1989): their variance times m / (n - m),
    with n the smaller set's size, estimates the variance of the whole sets' distance; the finite number of subsets adds a
    share of 1 / subsets. It covers both the choice of images and the choice of subsets.

    Args:
        a: features [n₁, D].
        b: features [n₂, D].
        seed: seed of the subsets.
        subsets: number of subsets, at least 2.
        subset: upper limit of m, which is also at most half of the smaller set.

    Raises:
        ValueError: the features differ in width, or a set has fewer than 4 rows.
    """
    first, second = a.astype(np.float64), b.astype(np.float64)
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            f"features of {first.shape[1]} and of {second.shape[1]} dimensions cannot be compared"
        )
    smaller = min(len(first), len(second))
    size = min(smaller // 2, subset)
    if size < 2:
        raise ValueError(f"KID of {len(first)} and {len(second)} images; expected at least 4 each")
    random = np.random.default_rng(seed)
    found = [
        unbiased_mmd(
            first[random.choice(len(first), size, replace=False)],
            second[random.choice(len(second), size, replace=False)],
        )
        for _ in range(subsets)
    ]
    spread = float(np.var(found, ddof=1)) * (size / (smaller - size) + 1 / subsets)
    return KernelDistance(float(np.mean(found)), spread**0.5)


def unbiased_mmd(x: Floats, y: Floats) -> float:
    """Mean kernel within x (pairs of different rows) + within y - 2 × mean kernel across; rows [n, D], [m, D]."""
    n, m, dim = len(x), len(y), x.shape[1]
    k_xx, k_yy, k_xy = ((left @ right.T / dim + 1) ** 3 for left, right in ((x, x), (y, y), (x, y)))
    within = (k_xx.sum() - np.trace(k_xx)) / (n * (n - 1)) + (k_yy.sum() - np.trace(k_yy)) / (m * (m - 1))
    return float(within - 2 * k_xy.mean())
