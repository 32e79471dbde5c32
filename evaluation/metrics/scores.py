"""Scores of a set of images against the reference, with their estimators."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluation.features.extractors import score_name
from evaluation.features.labels import UNKNOWN
from evaluation.features.reference import Reference, ReferenceFacts
from evaluation.features.rows import FeatureRows
from evaluation.metrics.kid import SUBSET, SUBSETS, kernel_distance
from evaluation.metrics.statistics import (
    NEIGHBOURS,
    RESAMPLES,
    SCORE_SPLITS,
    Moments,
    frechet_distance,
    frechet_interval,
    inception_score,
    moments,
    precision_recall,
    within_class_variance,
)
from evaluation.protocol import Protocol, Provenance, Score, write_numbers
from workspace.versions import OF_SCORES, versions

PRECISION_ROWS = 10_000
FRECHET = "squared Fréchet distance of Gaussians, float64, symmetric eigenvalues"
INTERVAL = (
    f"end of the 95 % interval: ± 1.96 deviations over {RESAMPLES} bootstrap resamples of the scored images, "
    "the reference held fixed"
)
KERNEL = f"unbiased cubic-kernel MMD², mean over {SUBSETS} subsets of at most {SUBSET} images or half of the smaller set"
KERNEL_ERROR = "standard error, from how those subsets differ (delete-d jackknife)"
COLOUR = "colour"
BALLS = f"balls to neighbour {NEIGHBOURS}, at most {PRECISION_ROWS} images of each set"


@dataclass(frozen=True)
class Real:
    """What images are held against.

    Attributes:
        rows: of one split, or of images that others gave; None where they gave statistics alone.
        moments: of the same images.
        fingerprint: of the artifact or file that they come from.
        split: train, val, or given.
    """

    rows: FeatureRows | None
    moments: Moments
    fingerprint: str = ""
    split: str = "given"

    @classmethod
    def of(cls, reference: Reference, split: str) -> "Real":
        """A split of a reference."""
        fingerprint = reference.manifest.fingerprint
        return cls(reference.rows(split), reference.moments(split), fingerprint, split)


def real_distances(reference: Reference) -> dict[str, Score]:
    """The Fréchet distance between the two splits of real images, per network: about what a perfect model would reach."""
    facts, (train, val) = reference.facts, (reference.moments(split) for split in ("train", "val"))
    found = {f"{score_name(facts.features, 'fd')}_train_val": Score(frechet_distance(train, val), FRECHET)}
    seconds = [reference.rows(split).second for split in ("train", "val")]
    if facts.second is not None and seconds[0] is not None and seconds[1] is not None:
        distance = frechet_distance(moments(seconds[0]), moments(seconds[1]))
        found[f"{score_name(facts.second.features, 'fd')}_train_val"] = Score(distance, FRECHET)
    return found


def reconstruction_distance(features: str, real: Real, made: FeatureRows, seed: int) -> dict[str, Score]:
    """The Fréchet distance between reconstructions and real images, with its interval: rfid, or proxy_rfd, …"""
    return _frechet(score_name(features, "rfd"), real, made, seed)


def scores_of_both(
    score: Callable[[str, Real, FeatureRows, int], dict[str, Score]],
    facts: ReferenceFacts,
    real: Real,
    made: FeatureRows,
    seed: int,
) -> dict[str, Score]:
    """Scores by the reference's network, and those whose names say that its second one made them, if it has one.

    Args:
        score: `sample_scores` or `reconstruction_distance`.
        facts: of the reference.
        real: the real images.
        made: the images' rows.
        seed: seed of random subsets and resamples.
    """
    first = score(facts.features, real, made, seed)
    others, mine = None if real.rows is None else real.rows.of_second(), made.of_second()
    if facts.second is None or others is None or mine is None:
        return first
    name = facts.second.features
    found = score(name, replace(real, rows=others, moments=moments(others.features)), mine, seed)
    return first | {title: value for title, value in found.items() if title.startswith(name)}


def _frechet(name: str, real: Real, made: FeatureRows, seed: int) -> dict[str, Score]:
    interval = frechet_interval(real.moments, made.features, seed)
    return {
        name: Score(frechet_distance(real.moments, moments(made.features)), FRECHET),
        f"{name}_low": Score(interval.low, INTERVAL),
        f"{name}_high": Score(interval.high, INTERVAL),
    }


def sample_scores(features: str, real: Real, made: FeatureRows, seed: int) -> dict[str, Score]:
    """Distances, precision, recall and variance of samples; with Inception features also the Inception score.

    Args:
        features: the extractor's name.
        real: the real images.
        made: the samples' features.
        seed: seed of random subsets and resamples.
    """
    named = _frechet(score_name(features, "fd"), real, made, seed)
    if real.rows is not None:
        named |= _neighbourhood_scores(features, real.rows, made, seed)
    if features == "inception":
        score = inception_score(made.logits, seed)
        named["is"] = Score(
            score.mean, f"exp mean KL without the last bias, mean of {SCORE_SPLITS} shuffled splits"
        )
        named["is_deviation"] = Score(score.deviation, f"standard deviation over the {SCORE_SPLITS} splits")
    return named | ({} if real.rows is None else variance_ratio(real.rows, made))


def _neighbourhood_scores(features: str, real: FeatureRows, made: FeatureRows, seed: int) -> dict[str, Score]:
    """What needs each real image's features: kernel distance, precision, recall."""
    covered = precision_recall(_some(real.features, seed), _some(made.features, seed))
    kernel = kernel_distance(real.features, made.features, seed)
    found = {
        "kid": Score(kernel.value, KERNEL),
        "kid_error": Score(kernel.error, KERNEL_ERROR),
        "precision": Score(covered.precision, BALLS),
        "recall": Score(covered.recall, BALLS),
    }
    return {score_name(features, name): score for name, score in found.items()}


def write_scores(
    scores: Mapping[str, Score], reference: Reference, real: Real, provenance: Provenance, folder: Path
) -> None:
    """Write the numbers (metrics.json) and how they were measured (protocol.json).

    Args:
        scores: by name.
        reference: whose extractor made the features.
        real: what the images were held against.
        provenance: what the images are.
        folder: for both files.
    """
    facts = reference.facts
    protocol = Protocol(
        reference=real.fingerprint,
        reference_split=real.split,
        reference_count=real.moments.count,
        count=provenance.count,
        resize=facts.resizing,
        features=facts.network,
        estimators={},
        settings=provenance.settings,
        seed=provenance.seed,
        made_from=provenance.made_from,
        versions=versions(OF_SCORES),
        warnings=few_images(facts, real, provenance.count),
    )
    write_numbers(scores, protocol, folder)


def few_images(facts: ReferenceFacts, real: Real, count: int) -> list[str]:
    """A sentence for each side that has no more images than the features have dimensions, where their number is known."""
    sides = {"scored images": count, f"real images ({real.split})": real.moments.count or facts.dim + 1}
    return [
        f"{images:,} {side} against {facts.dim:,} feature dimensions: the covariance is singular, and the Fréchet distance "
        "is too high; compare at equal counts only"
        for side, images in sides.items()
        if images <= facts.dim
    ]


def headline(facts: ReferenceFacts, scores: Mapping[str, Score]) -> str:
    """The distance of each network with its interval, and that of real training images to held-out ones beside it."""
    networks = [facts.features, *([facts.second.features] if facts.second else [])]
    told = []
    for name in (score_name(network, "fd") for network in networks):
        if name in scores:
            value, low, high = (scores[f"{name}{end}"].value for end in ("", "_low", "_high"))
            told.append(
                f"{name} {value:.4g} [{low:.4g}, {high:.4g}]; real images {scores[f'{name}_train_val'].value:.4g}"
            )
    return ", ".join(told)


def variance_ratio(real: FeatureRows, made: FeatureRows) -> dict[str, Score]:
    """Diversity of samples relative to real images: ratio of the traces of covariances.

    Computed within the classes that have two images in both sets, if there are any, to detect a model that draws one picture
    per class. Empty if the real images do not vary.
    """
    shared = np.intersect1d(_populous_classes(real), _populous_classes(made))
    if shared.size:
        traces = [_within(rows, shared) for rows in (made, real)]
        text = "trace of the features' covariance within a class, mean over classes, samples ÷ real images"
        return {"within_class_variance_ratio": Score(traces[0] / traces[1], text)} if traces[1] else {}
    totals = [rows.features.astype(np.float64).var(axis=0, ddof=1).sum() for rows in (made, real)]
    text = "trace of the features' covariance, samples ÷ real images"
    return {"variance_ratio": Score(float(totals[0] / totals[1]), text)} if totals[1] else {}


def accuracy_scores(rows: FeatureRows, heads: Sequence[str], main: str | None) -> dict[str, Score]:
    """How often the proxy recognises the requested label: `proxy_accuracy` for the class, `proxy_accuracy_HEAD` otherwise."""
    found = {}
    for name, value in rows.accuracy(heads).items():
        title = "proxy_accuracy" if name == main else f"proxy_accuracy_{name}"
        found[title] = Score(value, f"share of images whose {name} the proxy reads as asked")
    if main is not None and COLOUR in heads:
        both = rows.accuracy_of_all([list(heads).index(name) for name in (main, COLOUR)])
        if both is not None:
            text = f"share of images whose {main} and {COLOUR} the proxy both reads as asked"
            found[f"proxy_accuracy_{main}_and_{COLOUR}"] = Score(both, text)
    return found


def accuracy_by_class(
    rows: FeatureRows, heads: Mapping[str, Sequence[str]], main: str, names: Sequence[str]
) -> dict[str, Score]:
    """`proxy_accuracy_NAME`: how often images requested to show NAME, a value of the head `main`, are recognised."""
    column = list(heads).index(main)
    found = {}
    for name in names:
        asked = rows.expected[:, column] == heads[main].index(name)
        if asked.any():
            right = rows.predicted[asked, column] == rows.expected[asked, column]
            text = f"share of images asked to show {name} whose {main} the proxy reads so"
            found[f"proxy_accuracy_{name}"] = Score(float(right.mean()), text)
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
