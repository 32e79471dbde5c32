"""Scores of single images without a reference: whether the grid is visible, and whether the requested shape is there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.features.labels import UNKNOWN, Heads
from evaluation.features.reference import ReferenceFacts
from evaluation.features.rows import FeatureRows
from evaluation.metrics.grid import Grid, border_means, grid_scores, step_sums
from evaluation.metrics.scores import accuracy_by_class
from evaluation.protocol import Score
from evaluation.shapes.fitted import NAME, ShapeFits
from evaluation.shapes.outlines import Inside
from evaluation.shapes.shape_fit import KIND, fit_scores, fit_shapes
from shards.images import ImageSample
from workspace.exact.manifest import write_json

REAL_EVERY = 4
"""One real image in this many gets a shape fit for comparison, because they differ little and a fit takes 5 ms."""


@dataclass(frozen=True)
class Judged:
    """Scores of n images, in order; P kinds of border.

    Attributes:
        steps: `border_means`, [n, P, 2].
        kinds: each image's requested shape; None if unknown.
        fit: `shape_fit` of each image with a kind, else None.
        edge: `shape_edge_fit`, likewise.
    """

    steps: list[list[list[float]]]
    kinds: list[str | None]
    fit: list[float | None]
    edge: list[float | None]

    def to_json(self) -> dict[str, Any]:
        """The scores as JSON values."""
        return dict(vars(self))

    @classmethod
    def merged(cls, parts: Sequence["Judged"]) -> "Judged":
        """The scores of all parts, in order."""
        return cls(
            **{name: [row for part in parts for row in vars(part)[name]] for name in cls.__annotations__}
        )

    def first(self, count: int) -> "Judged":
        """The scores of the first `count` images."""
        return Judged(**{name: rows[:count] for name, rows in vars(self).items()})

    def fits(self) -> list[tuple[str, float, float]]:
        """Kind, fit and edge fit of the images with a kind."""
        rows = zip(self.kinds, self.fit, self.edge, strict=True)
        return [
            (kind, fit, edge)
            for kind, fit, edge in rows
            if kind is not None and fit is not None and edge is not None
        ]

    def save_fits(self, folder: Path) -> None:
        """Write shape_fit.json (kind, fit and edge fit per row) if any image has a kind."""
        if self.fits():
            write_json(folder / NAME, vars(ShapeFits(self.kinds, self.fit, self.edge)))


def judge(
    images: NDArray[np.uint8], kinds: Sequence[str | None], outlines: Mapping[str, Inside], grid: Grid
) -> Judged:
    """Score images, uint8 [B, S, S, 3], each with a requested kind of shape, or None."""
    drawn = [row for row, kind in enumerate(kinds) if kind is not None]
    fit: list[float | None] = [None] * len(images)
    edge = list(fit)
    found = fit_shapes(images[drawn], [kind for kind in kinds if kind is not None], outlines)
    for row, whole, rim in zip(drawn, found.fit.tolist(), found.edge.tolist(), strict=True):
        fit[row], edge[row] = round(whole, 5), round(rim, 5)
    steps = np.round(border_means(step_sums(images), grid), 5)
    return Judged(steps.tolist(), list(kinds), fit, edge)


def judge_both(
    samples: Sequence[ImageSample], made: NDArray[np.uint8], outlines: Mapping[str, Inside], grid: Grid
) -> dict[str, Judged]:
    """Score reconstructions (`made`) and their originals (`real`); only each `REAL_EVERY`-th original gets a shape fit."""
    kinds = [(sample.attributes or {}).get(KIND) for sample in samples]
    drawn = [kind if kind in outlines else None for kind in kinds]
    some = [None if row % REAL_EVERY else kind for row, kind in enumerate(drawn)]
    real = np.stack([sample.image for sample in samples])
    return {"made": judge(made, drawn, outlines, grid), "real": judge(real, some, outlines, grid)}


def judged_scores(
    judged: Judged,
    real_steps: NDArray[np.float64],
    rows: FeatureRows,
    facts: ReferenceFacts,
    grid: Grid,
    kinds: Sequence[str],
) -> dict[str, Score]:
    """Scores for the visibility of the grid and, for drawn shapes, for the requested shape.

    Args:
        judged: the images.
        real_steps: `border_means` of real images.
        rows: the images' feature rows.
        facts: the reference's facts.
        grid: the model's cell borders.
        kinds: the kinds of shape.
    """
    scores = grid_scores(grid.periods(facts.image_size), np.array(judged.steps), real_steps)
    fits = judged.fits()
    if fits:
        scores |= fit_scores(fits, kinds)
    if fits and KIND in facts.heads:
        scores |= accuracy_by_class(rows, facts.heads, KIND, kinds)
    return scores


def kinds_of(heads: Heads, expected: NDArray[np.int64], outlines: Mapping[str, Inside]) -> list[str | None]:
    """Each image's requested shape, from its labels [B, H]; None if there is no head `kind` or its label is unknown."""
    values = heads.get(KIND, ())
    if not values or not set(values) <= outlines.keys():
        return [None] * len(expected)
    column = list(heads).index(KIND)
    return [None if label == UNKNOWN else values[label] for label in expected[:, column]]
