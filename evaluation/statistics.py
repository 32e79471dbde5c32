"""Distances between two sets of features in float64: Fréchet, KID, inception score, precision and recall.

Features are [n, D] arrays, one row an image.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

Floats = NDArray[np.float64]

KID_SUBSETS, KID_SUBSET = 100, 1000
"""KID as it is published: the mean over 100 subsets of 1,000 images (fewer where there are fewer)."""
SCORE_SPLITS = 10
NEIGHBOURS = 3
ROWS = 2048


@dataclass(frozen=True)
class Moments:
    """Mean and covariance of features.

    Attributes:
        count: n, how many rows they were taken from, at least 2.
        mean: float64 [D].
        covariance: float64 [D, D], with n - 1 below the line.
    """

    count: int
    mean: Floats
    covariance: Floats


@dataclass(frozen=True)
class PrecisionRecall:
    """Improved precision and recall (Kynkäänniemi et al. 2019), each in [0, 1]."""

    precision: float
    recall: float


@dataclass(frozen=True)
class InceptionScore:
    """Mean of the score over the splits (≥ 1) and its standard deviation over them."""

    mean: float
    deviation: float


def moments(features: NDArray[np.floating]) -> Moments:
    """Mean and covariance of features [n, D].

    Raises:
        ValueError: fewer than two rows, or a value that is not finite.
    """
    rows = _float64(features)
    if len(rows) < 2:
        raise ValueError(f"{len(rows)} images have no covariance; expected at least 2")
    return Moments(len(rows), rows.mean(axis=0), np.atleast_2d(np.cov(rows, rowvar=False)))


def frechet_distance(a: Moments, b: Moments) -> float:
    """Squared Fréchet distance of two Gaussians: |μ₁ - μ₂|² + tr Σ₁ + tr Σ₂ - 2 tr (Σ₁ Σ₂)^½.

    With Σ₁ = F Fᵀ the eigenvalues of Σ₁ Σ₂ are those of the symmetric Fᵀ Σ₂ F, so two symmetric eigenvalue
    problems do what a matrix square root would, for singular covariances too.

    Raises:
        ValueError: the features differ in width.
    """
    if a.mean.shape != b.mean.shape:
        raise ValueError(f"features of {a.mean.size} and of {b.mean.size} dimensions cannot be compared")
    values, vectors = np.linalg.eigh(a.covariance)
    factor = vectors * np.sqrt(values.clip(min=0.0))
    product = np.linalg.eigvalsh(factor.T @ b.covariance @ factor)
    root_trace = np.sqrt(product.clip(min=0.0)).sum()
    gap = a.mean - b.mean
    distance = gap @ gap + np.trace(a.covariance) + np.trace(b.covariance) - 2 * root_trace
    return max(0.0, float(distance))


def kernel_distance(
    a: NDArray[np.floating],
    b: NDArray[np.floating],
    seed: int,
    subsets: int = KID_SUBSETS,
    subset: int = KID_SUBSET,
) -> float:
    """KID (Bińkowski et al. 2018): unbiased MMD² with the kernel (x·y / D + 1)³, mean over random subsets.

    Where a set has no more than `subset` images, all of it is in every subset. May be slightly negative.

    Raises:
        ValueError: the features differ in width, or a set has fewer than 2 rows.
    """
    first, second = _float64(a), _float64(b)
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            f"features of {first.shape[1]} and of {second.shape[1]} dimensions cannot be compared"
        )
    size = min(len(first), len(second), subset)
    if size < 2:
        raise ValueError(f"KID of {len(first)} and {len(second)} images; expected at least 2 each")
    if max(len(first), len(second)) == size:
        return _unbiased_mmd(first, second)
    random = np.random.default_rng(seed)
    draws = [
        _unbiased_mmd(
            first[random.choice(len(first), size, replace=False)],
            second[random.choice(len(second), size, replace=False)],
        )
        for _ in range(subsets)
    ]
    return float(np.mean(draws))


def _unbiased_mmd(x: Floats, y: Floats) -> float:
    """Mean kernel within x (pairs of different rows) + within y - 2 × mean kernel across."""
    n, m, dim = len(x), len(y), x.shape[1]
    k_xx, k_yy, k_xy = ((left @ right.T / dim + 1) ** 3 for left, right in ((x, x), (y, y), (x, y)))
    within = (k_xx.sum() - np.trace(k_xx)) / (n * (n - 1)) + (k_yy.sum() - np.trace(k_yy)) / (m * (m - 1))
    return float(within - 2 * k_xy.mean())


def inception_score(logits: NDArray[np.floating], seed: int, splits: int = SCORE_SPLITS) -> InceptionScore:
    """exp E KL(p(y|x) ‖ p(y)) of logits [n, C], over `splits` parts of the shuffled images (at most n)."""
    rows = _float64(logits)[np.random.default_rng(seed).permutation(len(logits))]
    scores = []
    for part in np.array_split(rows, min(splits, len(rows))):
        log_p = log_softmax(part, axis=1)
        p = np.exp(log_p)
        log_marginal = np.log(np.maximum(p.mean(axis=0), np.finfo(np.float64).tiny))
        scores.append(np.exp((p * (log_p - log_marginal)).sum(axis=1).mean()))
    return InceptionScore(float(np.mean(scores)), float(np.std(scores)))


def precision_recall(
    real: NDArray[np.floating], fake: NDArray[np.floating], neighbours: int = NEIGHBOURS
) -> PrecisionRecall:
    """Improved precision and recall: share of rows in a k-th-neighbour ball of a row of the other set.

    Raises:
        ValueError: a set has no more than `neighbours` rows.
    """
    if min(len(real), len(fake)) <= neighbours:
        raise ValueError(
            f"precision of {len(fake)} against {len(real)} images; expected more than {neighbours} each"
        )
    x, y = _float64(real), _float64(fake)
    return PrecisionRecall(_covered(y, x, neighbours), _covered(x, y, neighbours))


def _covered(points: Floats, centres: Floats, neighbours: int) -> float:
    """Share of the points that lie in at least one centre's ball, whose radius reaches its k-th neighbour."""
    radii = np.concatenate(
        [
            np.partition(_squared_distances(centres[at : at + ROWS], centres), neighbours, axis=1)[
                :, neighbours
            ]
            for at in range(0, len(centres), ROWS)
        ]
    )
    inside = [
        (_squared_distances(points[at : at + ROWS], centres) <= radii).any(axis=1)
        for at in range(0, len(points), ROWS)
    ]
    return float(np.concatenate(inside).mean())


def _squared_distances(x: Floats, y: Floats) -> Floats:
    """[n, m] squared Euclidean distances, at least 0."""
    squares: Floats = (x * x).sum(axis=1)[:, None] + (y * y).sum(axis=1)[None, :] - 2 * (x @ y.T)
    return squares.clip(min=0.0)


def within_class_variance(features: NDArray[np.floating], classes: NDArray[np.integer]) -> float:
    """Mean over the classes with at least 2 images of the trace of their covariance: how varied a class is.

    Raises:
        ValueError: no class has two images.
    """
    rows = _float64(features)
    traces = [
        rows[classes == cls].var(axis=0, ddof=1).sum()
        for cls in np.unique(classes)
        if (classes == cls).sum() >= 2
    ]
    if not traces:
        raise ValueError("no class has 2 images, so there is no variance within one")
    return float(np.mean(traces))


def _float64(rows: NDArray[np.floating]) -> Floats:
    if rows.ndim != 2:
        raise ValueError(f"features have shape {rows.shape}, expected [images, dimensions]")
    if not np.isfinite(rows).all():
        raise ValueError("features hold a value that is not finite")
    return rows.astype(np.float64)
