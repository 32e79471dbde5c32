"""The nearest training images of generated ones, in feature space: does the generator copy its training data?

A distance alone means little, so it is also measured for held-out images, which cannot be copies. Samples about as far from
the training images as held-out images are not copies either.

Shapes: n images, m training images, D features, k neighbours.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from evaluation.features.extractors import score_name
from evaluation.features.reference import Reference
from evaluation.features.rows import FeatureRows
from evaluation.protocol import Score
from workspace.exact.manifest import atomic_path

NAME = "neighbours.safetensors"
SHOWN = 4
"""Number of neighbours stored per sample."""
SPARE = 8
"""Number of extra candidates re-ranked in float64, because the search itself is in float32."""
ROWS, COLUMNS = 1024, 2048
CLOSE = 0.01
"""A sample is a close copy if at most this share of the held-out images is as near to a training image."""


@dataclass(frozen=True)
class Nearest:
    """The k nearest training images of n images, the nearest first.

    Attributes:
        items: int64 [n, k], rows of the training features; ties keep their order.
        distances: float64 [n, k], Euclidean.
    """

    items: NDArray[np.int64]
    distances: NDArray[np.float64]


@dataclass(frozen=True)
class EvaluationFacts:
    """The facts in an evaluation manifest: number of scored images, their features, and number of training images."""

    images: int
    features: str
    training_images: int


@dataclass(frozen=True)
class Neighbours:
    """The content of an `evaluate` artifact.

    Attributes:
        items: int64 [n, k], the samples' nearest images, as indices into the image shards' training split.
        distances: float32 [n, k], Euclidean, in feature space.
        held_out: float32 [v], each held-out image's distance to its nearest training image.
    """

    items: NDArray[np.int64]
    distances: NDArray[np.float32]
    held_out: NDArray[np.float32]

    @classmethod
    def of(cls, rows: FeatureRows, reference: Reference) -> Self:
        """The nearest training images of samples, and how near held-out images come to theirs."""
        training = reference.rows("train").features
        made, real = (
            nearest(rows.features, training, SHOWN),
            nearest(reference.rows("val").features, training, 1),
        )
        return cls(
            items=reference.facts.items("train")[made.items],
            distances=made.distances.astype(np.float32),
            held_out=real.distances[:, 0].astype(np.float32),
        )

    def scores(self, features: str, training: int) -> dict[str, Score]:
        """See `copy_scores`."""
        return copy_scores(features, self.distances[:, 0], self.held_out, training)

    def save(self, folder: Path) -> None:
        """Write neighbours.safetensors, atomically."""
        tensors = {name: np.ascontiguousarray(values) for name, values in vars(self).items()}
        with atomic_path(folder / NAME) as temporary:
            save_file(tensors, temporary)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read neighbours written by `save`."""
        return cls(**load_file(folder / NAME))


def nearest(images: NDArray[np.float32], training: NDArray[np.float32], count: int) -> Nearest:
    """For each row of `images` [n, D], its `count` nearest rows of `training` [m, D] (all, if there are fewer).

    Raises:
        ValueError: the features differ in width, or there are no training rows.
    """
    if len(training) == 0 or images.shape[1:] != training.shape[1:]:
        raise ValueError(
            f"neighbours of rows {images.shape} among rows {training.shape}; expected [n, D], [m ≥ 1, D]"
        )
    found = [_nearest(images[at : at + ROWS], training, count) for at in range(0, len(images), ROWS)]
    empty = Nearest(
        np.zeros((0, min(count, len(training))), np.int64), np.zeros((0, min(count, len(training))))
    )
    parts = found or [empty]
    return Nearest(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in ("items", "distances"))
    )


def _nearest(images: NDArray[np.float32], training: NDArray[np.float32], count: int) -> Nearest:
    """Find candidates by |y|² - 2 x·y in float32, tile by tile, then compute their distances from differences in float64."""
    kept = min(count + SPARE, len(training))
    items = np.zeros((len(images), 0), np.int64)
    values = np.zeros((len(images), 0), np.float32)
    for at in range(0, len(training), COLUMNS):
        tile = training[at : at + COLUMNS]
        near = np.einsum("md,md->m", tile, tile) - 2 * (images @ tile.T)
        items = np.hstack([items, np.broadcast_to(np.arange(at, at + len(tile)), near.shape)])
        values = np.hstack([values, near])
        if values.shape[1] > kept:
            best = np.argpartition(values, kept - 1, axis=1)[:, :kept]
            items, values = np.take_along_axis(items, best, axis=1), np.take_along_axis(values, best, axis=1)
    items.sort(axis=1)
    gaps = images[:, None].astype(np.float64) - training[items]
    distances = np.sqrt(np.einsum("nkd,nkd->nk", gaps, gaps))
    order = np.argsort(distances, axis=1, kind="stable")[:, :count]
    return Nearest(np.take_along_axis(items, order, axis=1), np.take_along_axis(distances, order, axis=1))


def copy_scores(
    features: str, samples: NDArray[np.floating], held_out: NDArray[np.floating], training: int
) -> dict[str, Score]:
    """How near samples are to the training images, compared with held-out images.

    Args:
        features: the extractor's name.
        samples: each sample's distance to its nearest training image, [n], n ≥ 1.
        held_out: the same for held-out images, [v], v ≥ 1.
        training: number of training images searched.
    """
    close = np.quantile(held_out, CLOSE)
    usual = float(np.median(held_out))
    among = f"among {training:,} training images, Euclidean in feature space"
    found = {}
    if usual:  # 0 if most held-out images are also training images: then there is no ratio
        text = f"median distance to the nearest {among}, samples ÷ held-out images"
        found[score_name(features, "nearest_train_ratio")] = Score(float(np.median(samples)) / usual, text)
    return found | {
        score_name(features, "close_copies"): Score(
            float((samples < close).mean()),
            f"share of samples nearer to a training image than {1 - CLOSE:.0%} of the held-out images are, {among}",
        ),
    }
