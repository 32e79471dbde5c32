"""Numbers with their estimators: how a set of images stands against the reference."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.extractors import score_name
from evaluation.labels import UNKNOWN
from evaluation.rows import FeatureRows
from evaluation.statistics import (
    KID_SUBSET,
    KID_SUBSETS,
    NEIGHBOURS,
    SCORE_SPLITS,
    Moments,
    frechet_distance,
    inception_score,
    kernel_distance,
    moments,
    precision_recall,
    within_class_variance,
)

PRECISION_ROWS = 10_000
FRECHET = "squared Fréchet distance of Gaussians, float64, symmetric eigenvalues"
KERNEL = f"unbiased cubic-kernel MMD², mean over {KID_SUBSETS} subsets of at most {KID_SUBSET} images"
BALLS = f"balls to neighbour {NEIGHBOURS}, at most {PRECISION_ROWS} images of each set"


@dataclass(frozen=True)
class Score:
    """A number and how it was estimated."""

    value: float
    estimator: str


Scores = Mapping[str, Score]


@dataclass(frozen=True)
class Real:
    """What images are held against: the rows and moments of one split."""

    rows: FeatureRows
    moments: Moments


def real_distance(features: str, train: Moments, val: Moments) -> dict[str, Score]:
    """The Fréchet distance of the two splits of real images: what a perfect model would reach, about."""
    name = f"{score_name(features, 'fd')}_train_val"
    return {name: Score(frechet_distance(train, val), FRECHET)}


def reconstruction_distance(features: str, real: Real, made: FeatureRows) -> dict[str, Score]:
    """The Fréchet distance of reconstructions to real images: rfid, or proxy_rfd, …"""
    distance = frechet_distance(real.moments, moments(made.features))
    return {score_name(features, "rfd"): Score(distance, FRECHET)}


def sample_scores(features: str, real: Real, made: FeatureRows, seed: int) -> dict[str, Score]:
    """Distances, precision, recall and variance of samples; with Inception its score too.

    Args:
        features: the extractor's name.
        real: the reference.
        made: features of the samples.
        seed: of the random subsets.
    """
    covered = precision_recall(_some(real.rows.features, seed), _some(made.features, seed))
    found = {
        "fd": Score(frechet_distance(real.moments, moments(made.features)), FRECHET),
        "kid": Score(kernel_distance(real.rows.features, made.features, seed), KERNEL),
        "precision": Score(covered.precision, BALLS),
        "recall": Score(covered.recall, BALLS),
    }
    named = {score_name(features, name): score for name, score in found.items()}
    if features == "inception":
        score = inception_score(made.logits, seed)
        named["is"] = Score(
            score.mean, f"exp mean KL without the last bias, mean of {SCORE_SPLITS} shuffled splits"
        )
        named["is_deviation"] = Score(score.deviation, f"standard deviation over the {SCORE_SPLITS} splits")
    return named | variance_ratio(real.rows, made)


def variance_ratio(real: FeatureRows, made: FeatureRows) -> dict[str, Score]:
    """How varied samples are, 1 being as varied as real images: ratio of the traces of covariances.

    Within the classes that have two images in both, where there are any, so that a model that draws one
    picture a class is seen.
    """
    shared = np.intersect1d(_populous_classes(real), _populous_classes(made))
    if shared.size:
        traces = [_within(rows, shared) for rows in (made, real)]
        text = "trace of the features' covariance within a class, mean over classes, samples ÷ real images"
        return {"within_class_variance_ratio": Score(traces[0] / traces[1], text)}
    totals = [rows.features.astype(np.float64).var(axis=0, ddof=1).sum() for rows in (made, real)]
    text = "trace of the features' covariance, samples ÷ real images"
    return {"variance_ratio": Score(float(totals[0] / totals[1]), text)}


def accuracy_scores(rows: FeatureRows, heads: Sequence[str], main: str | None) -> dict[str, Score]:
    """How often the proxy reads what was asked: `proxy_accuracy` of the class, `proxy_accuracy_HEAD` else."""
    found = {}
    for name, value in rows.accuracy(heads).items():
        title = "proxy_accuracy" if name == main else f"proxy_accuracy_{name}"
        found[title] = Score(value, f"share of images whose {name} the proxy reads as asked")
    return found


def _populous_classes(rows: FeatureRows) -> NDArray[np.int64]:
    """Classes with at least two images."""
    classes, counts = np.unique(rows.classes, return_counts=True)
    found: NDArray[np.int64] = classes[(counts >= 2) & (classes != UNKNOWN)]
    return found


def _within(rows: FeatureRows, classes: NDArray[np.int64]) -> float:
    chosen = np.isin(rows.classes, classes)
    return within_class_variance(rows.features[chosen], rows.classes[chosen])


def _some(features: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    if len(features) <= PRECISION_ROWS:
        return features
    return features[np.random.default_rng(seed).choice(len(features), PRECISION_ROWS, replace=False)]
