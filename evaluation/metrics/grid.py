"""Does the grid show? Steps of brightness between neighbouring pixels, across the borders of cells against within them.

`grid_ratio` = mean |difference of neighbours| across every p-th border ÷ that across all others, over both directions, all rows,
channels and images. It is 1 where the picture knows nothing of the grid, and above where tiles show. p is the side of a cell
(`cells`) or of the decoder's last space-to-depth block (`stem`). Shapes: B images of S × S pixels, P kinds of border.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.protocol import Score

Floats = NDArray[np.float64]

CELL, STEM = "cell_pixels", "stem_pixels"
FLAT = 1e-3
"""Levels of 255 added to both means: flat pictures have the ratio 1."""
RATIO = "mean absolute difference of neighbouring pixels across borders every {pixels} pixels ÷ that between the others"


@dataclass(frozen=True)
class Grid:
    """Where borders lie: pixels a side of a cell, and of a space-to-depth block of the decoder's end (1: there is none)."""

    cell: int
    stem: int

    def periods(self, side: int) -> dict[str, int]:
        """Name → pixels between borders, of those that pictures of this side have: a border, and something else."""
        kinds = {"cells": self.cell} | ({"stem": self.stem} if self.stem != self.cell else {})
        return {name: pixels for name, pixels in kinds.items() if 1 < pixels < side}


def step_sums(images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """|difference of neighbours| at each of the S - 1 borders, over rows and channels: [B, S, S, 3] → int64 [B, 2, S - 1].

    First between columns, then between rows; levels of 255.
    """
    levels = images.astype(np.int16)
    across, down = np.abs(np.diff(levels, axis=2)), np.abs(np.diff(levels, axis=1))
    return np.stack([across.sum(axis=(1, 3), dtype=np.int64), down.sum(axis=(2, 3), dtype=np.int64)], axis=1)


def border_means(sums: NDArray[np.integer] | Floats, grid: Grid) -> Floats:
    """Mean step at the borders of each kind, and at all others: [..., 2, S - 1] → [..., P, 2], levels of 255."""
    borders = np.arange(1, sums.shape[-1] + 1)
    levels = sums / (3 * (sums.shape[-1] + 1))
    found = []
    for period in grid.periods(sums.shape[-1] + 1).values():
        chosen = borders % period == 0
        found.append([levels[..., of].mean(axis=(-2, -1)) for of in (chosen, ~chosen)])
    return np.moveaxis(np.array(found), (0, 1), (-2, -1)) if found else np.zeros((*sums.shape[:-2], 0, 2))


def grid_scores(periods: Mapping[str, int], made: Floats, real: Floats) -> dict[str, Score]:
    """`grid_ratio_cells` and `grid_ratio_stem`, those of real images (`_real`), and the first over the second (`_to_real`).

    Args:
        periods: of the pictures, P of them.
        made: `border_means` of the images, [n, P, 2].
        real: of real images, [m, P, 2]; of m sums over images alike.
    """
    found: dict[str, Score] = {}
    if not periods:  # a grid of one cell has no borders
        return found
    for (name, pixels), mine, others in zip(periods.items(), _ratios(made), _ratios(real), strict=True):
        text = RATIO.format(pixels=pixels)
        found[f"grid_ratio_{name}"] = Score(mine, text)
        found[f"grid_ratio_{name}_real"] = Score(others, f"{text}; of real images")
        found[f"grid_ratio_{name}_to_real"] = Score(mine / others, f"{text}; ÷ that of real images")
    return found


def _ratios(means: Floats) -> list[float]:
    """The ratio for each kind of border: of means over the images, so that flat images weigh little."""
    border, within = np.moveaxis(means.mean(axis=0), -1, 0)
    ratios: list[float] = ((border + FLAT) / (within + FLAT)).tolist()
    return ratios
