"""Does the model copy? Samples with their nearest training images, and the distances of held-out images for comparison."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from evaluation.neighbours import NAME, EvaluationFacts, Neighbours
from reporting.axes import Axis, count_axis
from reporting.gallery import THUMBNAIL, data_uri, label_of
from shards.images import ImageShards
from workspace.errors import UserError
from workspace.exact.manifest import Manifest, facts_of, verify_file

WIDTH, HEIGHT = 520.0, 210.0
LEFT, RIGHT, TOP, BOTTOM = 12.0, 12.0, 26.0, 28.0
BINS = 36
CLOSEST = 8
"""Number of samples nearest to a training image that are shown with it."""
OUTERMOST = 0.995
"""The histogram ends at this quantile; larger values are in its last bin."""


@dataclass(frozen=True)
class Neighbour:
    """A training image: its index in `Copies.pool`, and its distance from the sample in feature space."""

    picture: int
    distance: float


@dataclass(frozen=True)
class Training:
    """A displayed training image: its key in the shards, its class ("" if unknown), a data: URI."""

    key: str
    label: str
    image: str


@dataclass(frozen=True)
class Histogram:
    """Distances to the nearest training image, in a box of WIDTH × HEIGHT: SVG areas, each of the same size."""

    x: Axis
    base: float
    samples: str
    held_out: str


@dataclass(frozen=True)
class Copies:
    """The page's section about copying.

    Attributes:
        training_images: number of training images searched.
        in_all: number of training images in all.
        features: the extractor of the feature space.
        near: row of a displayed sample → its nearest training images, nearest first.
        pool: the displayed training images.
        closest: rows of the samples nearest to any training image, nearest first.
        median: median of the samples' distances to their nearest training image.
        median_held_out: the same for held-out images.
        histogram: both sets of distances.
    """

    training_images: int
    in_all: int
    features: str
    near: dict[int, list[Neighbour]]
    pool: list[Training]
    closest: list[int]
    median: float
    median_held_out: float
    histogram: Histogram


def read_copies(evaluation: Path, manifest: Manifest, shards: ImageShards, rows: Sequence[int]) -> Copies:
    """Neighbours of the samples in these rows, and of the samples nearest to any training image.

    Raises:
        UserError: the evaluation's files were changed, or it used other training images.
    """
    verify_file(evaluation, manifest, NAME)
    found = Neighbours.load(evaluation)
    classes = shards.facts.classes or ()
    nearest = found.distances[:, 0].astype(np.float64)
    closest = np.argsort(nearest, kind="stable")[:CLOSEST].tolist()
    shown = [row for row in dict.fromkeys([*rows, *closest]) if row < len(nearest)]
    items = list(dict.fromkeys(found.items[shown].ravel().tolist()))
    if items and max(items) >= shards.count("train"):
        raise UserError(
            f"{evaluation} names training images that {shards.folder} does not have: run `dvc repro evaluate`"
        )
    place = {item: number for number, item in enumerate(items)}
    near = {
        row: [
            Neighbour(place[item], round(distance, 4))
            for item, distance in zip(found.items[row].tolist(), found.distances[row].tolist(), strict=True)
        ]
        for row in shown
    }
    facts = facts_of(EvaluationFacts, manifest)
    return Copies(
        training_images=facts.training_images,
        in_all=shards.count("train"),
        features=facts.features,
        near=near,
        pool=_pool(shards, items, classes),
        closest=closest,
        median=float(np.median(nearest)),
        median_held_out=float(np.median(found.held_out)),
        histogram=histogram(nearest, found.held_out.astype(np.float64)),
    )


def _pool(shards: ImageShards, items: Sequence[int], classes: Sequence[str]) -> list[Training]:
    index = shards.index("train")
    pool = []
    for item in items:
        sample = index.read(item)
        image = data_uri(Image.fromarray(sample.image), THUMBNAIL)
        pool.append(Training(sample.key, label_of(sample.cls, None, classes), image))
    return pool


def histogram(samples: NDArray[np.float64], held_out: NDArray[np.float64]) -> Histogram:
    """Both sets of distances [n], [v] with the same bins, from 0."""
    high = max(float(np.quantile(values, OUTERMOST)) for values in (samples, held_out)) or 1.0
    x = count_axis(high, LEFT, WIDTH - RIGHT, ticks=6)
    edges = np.linspace(0, high, BINS + 1)
    shares = [np.histogram(values.clip(0, high), edges)[0] / len(values) for values in (samples, held_out)]
    top = max(share.max() for share in shares)
    base = HEIGHT - BOTTOM
    paths = [_area(edges, share / top * (base - TOP), x, base) for share in shares]
    return Histogram(x, base, paths[0], paths[1])


def _area(edges: NDArray[np.float64], heights: NDArray[np.float64], x: Axis, base: float) -> str:
    """The outline of bars, closed along the base."""
    steps = "".join(
        f"V{base - height:.1f}H{x.place(edge):.1f}" for height, edge in zip(heights, edges[1:], strict=True)
    )
    return f"M{x.start:.1f} {base:.1f}{steps}V{base:.1f}Z"
