"""Scores of each class by itself: which ones a model draws badly. Kernel distance, since it is unbiased for few images."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from evaluation.features.labels import UNKNOWN
from evaluation.features.rows import FeatureRows
from evaluation.metrics.kid import kernel_distance
from evaluation.metrics.statistics import FEWEST, precision_recall
from workspace.exact.manifest import write_json

NAME = "classes.json"
ClassScores = dict[str, dict[str, float]]


def class_scores(real: FeatureRows, made: FeatureRows, names: Sequence[str], seed: int) -> ClassScores:
    """Class → images of either side, kernel distance with its standard error, precision, recall; the worst distance first.

    Args:
        real: the real images.
        made: the scored images.
        names: of the classes, by number.
        seed: of the random subsets.

    A class with fewer than `FEWEST` images on a side is left out.
    """
    found: ClassScores = {}
    for number in np.intersect1d(real.classes, made.classes):
        ours, theirs = (rows.features[rows.classes == number] for rows in (made, real))
        if number == UNKNOWN or min(len(ours), len(theirs)) < FEWEST:
            continue
        kernel, covered = kernel_distance(theirs, ours, seed), precision_recall(theirs, ours)
        found[names[number]] = {
            "images": len(ours),
            "real": len(theirs),
            "kid": kernel.value,
            "kid_error": kernel.error,
            "precision": covered.precision,
            "recall": covered.recall,
        }
    return dict(sorted(found.items(), key=lambda item: (-item[1]["kid"], item[0])))


def write_classes(
    real: FeatureRows | None, made: FeatureRows, names: Sequence[str] | None, seed: int, folder: Path
) -> str:
    """Write classes.json beside the numbers, where both sides have classes; returns what `worst` says."""
    scores = {} if real is None else class_scores(real, made, names or (), seed)
    if scores:
        write_json(folder / NAME, scores)
    return worst(scores)


def worst(scores: ClassScores) -> str:
    """A line about the classes farthest from real images; "" for fewer than two classes."""
    if len(scores) < 2:
        return ""
    told = ", ".join(
        f"{name} {of['kid']:.3g} ± {of['kid_error']:.2g}" for name, of in list(scores.items())[:3]
    )
    return f"farthest from real images of their class, by kernel distance: {told}"
