"""Comparisons of two sets of features, in float64: Fréchet distance, Inception score, precision and recall.

Features are [n, D] arrays, one row per image. KID is in kid.py.
"""

from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SCORE_SPLITS = 10
NEIGHBOURS = 3
FEWEST = NEIGHBOURS + 1
"""Smallest number of images with precision, recall and a covariance."""
ROWS = 2048
RESAMPLES = 50
NORMAL_95 = 1.959964
"""Half the width, in standard deviations, of the interval with 95 % of a normal distribution."""


@dataclass(frozen=True)
class Moments:
    """Mean and covariance of features.

    Attributes:
        count: n, number of rows, at least 2.
        mean: float64 [D].
        covariance: float64 [D, D], with denominator n - 1.
    """

    count: int
    mean: Floats
    covariance: Floats


@dataclass(frozen=True)
class Interval:
    """A 95 % confidence interval."""

    low: float
    high: float


@dataclass(frozen=True)
class PrecisionRecall:
    """Improved precision and recall (Kynkäänniemi et al. 2019), each in [0, 1]."""

    precision: float
    recall: float


@dataclass(frozen=True)
class InceptionScore:
    """Mean (≥ 1) and standard deviation of the score over the splits."""

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

    With Σ₁ = F Fᵀ the eigenvalues of Σ₁ Σ₂ are those of the symmetric Fᵀ Σ₂ F. A factorisation and the eigenvalues of one
    symmetric matrix therefore replace the matrix square root, also for singular covariances.

    Raises:
        ValueError: the features differ in width.
    """
    if a.mean.shape != b.mean.shape:
        raise ValueError(f"features of {a.mean.size} and of {b.mean.size} dimensions cannot be compared")
    factor = _root(a)
    product = _eigenvalues(factor.T @ b.covariance @ factor)
    gap = a.mean - b.mean
    return _distance(float(gap @ gap), np.trace(a.covariance) + np.trace(b.covariance), product)


def _root(of: Moments) -> Floats:
    """F with Σ = F Fᵀ: by Cholesky if there are more rows than dimensions, else from Σ's eigenvectors."""
    if of.count > of.mean.size:
        with suppress(np.linalg.LinAlgError):  # Σ can still be singular, if some features are constant
            return np.linalg.cholesky(of.covariance).astype(np.float64, copy=False)
    values, vectors = np.linalg.eigh(of.covariance)
    there = values > values[-1] * of.mean.size * np.finfo(np.float64).eps
    return vectors[:, there] * np.sqrt(values[there])


def _eigenvalues(symmetric: Floats) -> Floats:
    return np.linalg.eigvalsh(symmetric).astype(np.float64, copy=False)


def _distance(gap: float, traces: float, product: Floats) -> float:
    """|μ₁ - μ₂|² + tr Σ₁ + tr Σ₂ - 2 Σ √λ with λ the eigenvalues of Σ₁ Σ₂; rounding must not make it negative."""
    return max(0.0, float(gap + traces - 2 * np.sqrt(product.clip(min=0.0)).sum()))


def frechet_interval(
    real: Moments, made: NDArray[np.floating], seed: int, resamples: int = RESAMPLES
) -> Interval:
    """95 % bootstrap interval of the Fréchet distance between features `made` [n, D] and `real`, which is fixed.

    Estimates how much the number would change with n other images from the same model: ± 1.96 standard deviations over
    resamples of the n rows with replacement. (Quantiles of the resamples would be too high, because a resample has fewer
    different images, and the distance grows as their number shrinks.)

    With Σ = F Fᵀ the rows are projected once, y = x F, so a resample costs one product of n rows of rank(F).

    Raises:
        ValueError: the features differ in width, or there are fewer than 2 rows.
    """
    rows = _float64(made)
    estimate = frechet_distance(real, moments(rows))
    root, centred = _root(real), rows - real.mean
    projected, squares = centred @ root, (centred * centred).sum(axis=1)
    trace, random, count = np.trace(real.covariance), np.random.default_rng(seed), len(rows)
    found = []
    for _ in range(resamples):
        times = random.multinomial(count, np.full(count, 1 / count))
        chosen = times > 0
        share = times[chosen, None] / count
        gap = (share * centred[chosen]).sum(axis=0)
        variance = ((share[:, 0] * squares[chosen]).sum() - gap @ gap) * count / (count - 1)
        spread = projected[chosen] - (share * projected[chosen]).sum(axis=0)
        spread *= np.sqrt(share * count / (count - 1))
        product = spread.T @ spread if len(spread) > spread.shape[1] else spread @ spread.T
        found.append(_distance(float(gap @ gap), trace + variance, _eigenvalues(product)))
    half = NORMAL_95 * float(np.std(found, ddof=1))
    return Interval(max(0.0, estimate - half), estimate + half)


def inception_score(logits: NDArray[np.floating], seed: int, splits: int = SCORE_SPLITS) -> InceptionScore:
    """exp E KL(p(y|x) ‖ p(y)) of logits [n, C], over `splits` parts of the shuffled images (at most n)."""
    rows = _float64(logits)[np.random.default_rng(seed).permutation(len(logits))]
    scores = []
    for part in np.array_split(rows, min(splits, len(rows))):
        log_p = part - np.logaddexp.reduce(part, axis=1, keepdims=True)
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
    """Share of the points inside at least one centre's ball, whose radius is the distance to its k-th neighbour."""
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
    """Diversity within classes: mean trace of the covariance over classes with at least 2 images.

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
