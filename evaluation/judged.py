"""What images look like by themselves, image by image: whether the grid shows, and whether the shape asked for is there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.fitted import NAME, ShapeFits
from evaluation.grid import Grid, border_means, step_sums
from evaluation.labels import UNKNOWN, Heads
from evaluation.outlines import Inside
from evaluation.shape_fit import KIND, fit_shapes
from workspace.manifest import write_json


@dataclass(frozen=True)
class Judged:
    """Of n images, in order; P kinds of border.

    Attributes:
        steps: `border_means`, [n, P, 2].
        kinds: the shape that each was to show; None where that is not known.
        fit: `shape_fit` of each that has a kind, else None.
        edge: `shape_edge_fit`, likewise.
    """

    steps: list[list[list[float]]]
    kinds: list[str | None]
    fit: list[float | None]
    edge: list[float | None]

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return dict(vars(self))

    @classmethod
    def merged(cls, parts: Sequence["Judged"]) -> "Judged":
        """Of all images of the parts, in order."""
        return cls(
            **{name: [row for part in parts for row in vars(part)[name]] for name in cls.__annotations__}
        )

    def first(self, count: int) -> "Judged":
        """Of the first images."""
        return Judged(**{name: rows[:count] for name, rows in vars(self).items()})

    def fits(self) -> list[tuple[str, float, float]]:
        """Kind, fit and edge fit of the images that have them."""
        rows = zip(self.kinds, self.fit, self.edge, strict=True)
        return [
            (kind, fit, edge)
            for kind, fit, edge in rows
            if kind is not None and fit is not None and edge is not None
        ]

    def save_fits(self, folder: Path) -> None:
        """Write shape_fit.json, kind, fit and edge fit by row, where any image has them."""
        if self.fits():
            write_json(folder / NAME, vars(ShapeFits(self.kinds, self.fit, self.edge)))


def judge(
    images: NDArray[np.uint8], kinds: Sequence[str | None], outlines: Mapping[str, Inside], grid: Grid
) -> Judged:
    """Look at images, uint8 [B, S, S, 3], each of which was to show a kind of shape, or nothing that is known."""
    drawn = [row for row, kind in enumerate(kinds) if kind is not None]
    fit: list[float | None] = [None] * len(images)
    edge = list(fit)
    found = fit_shapes(images[drawn], [kind for kind in kinds if kind is not None], outlines)
    for row, whole, rim in zip(drawn, found.fit.tolist(), found.edge.tolist(), strict=True):
        fit[row], edge[row] = round(whole, 5), round(rim, 5)
    steps = np.round(border_means(step_sums(images), grid), 5)
    return Judged(steps.tolist(), list(kinds), fit, edge)


def kinds_of(heads: Heads, expected: NDArray[np.int64], outlines: Mapping[str, Inside]) -> list[str | None]:
    """Which shape each image was to show, from its labels [B, H]: None where no head `kind` says so, or its label is unknown."""
    values = heads.get(KIND, ())
    if not values or not set(values) <= outlines.keys():
        return [None] * len(expected)
    column = list(heads).index(KIND)
    return [None if label == UNKNOWN else values[label] for label in expected[:, column]]
