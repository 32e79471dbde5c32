"""Is the grid visible? Compares brightness steps between neighbouring pixels across cell borders with those inside cells.

`grid_ratio` = mean |difference of neighbours| across every p-th border ÷ that across all others, over both directions, all rows,
channels and images. It is 1 for pictures independent of the grid, and above 1 if tiles are visible. p is the side of a cell
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
"""Added to both means, in levels of 255, so that flat pictures have the ratio 1."""
RATIO = "mean absolute difference of neighbouring pixels across borders every {pixels} pixels ÷ that between the others"


@dataclass(frozen=True)
class Grid:
    """Positions of borders: pixels per side of a cell, and of the decoder's last space-to-depth block (1 means none)."""

    cell: int
    stem: int

    def periods(self, side: int) -> dict[str, int]:
        """Name → pixels between borders, for the kinds with at least one border and one other position at this side."""
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
    """Mean step at each kind of border, and at all other positions: [..., 2, S - 1] → [..., P, 2], levels of 255."""
    borders = np.arange(1, sums.shape[-1] + 1)
    levels = sums / (3 * (sums.shape[-1] + 1))
    found = []
    for period in grid.periods(sums.shape[-1] + 1).values():
        chosen = borders % period == 0
        found.append([levels[..., of].mean(axis=(-2, -1)) for of in (chosen, ~chosen)])
    return np.moveaxis(np.array(found), (0, 1), (-2, -1)) if found else np.zeros((*sums.shape[:-2], 0, 2))


def grid_scores(periods: Mapping[str, int], made: Floats, real: Floats) -> dict[str, Score]:
    """`grid_ratio_cells` and `grid_ratio_stem`, those of real images (`_real`), and their quotients (`_to_real`).

    Args:
        periods: the P kinds of border.
        made: `border_means` of the images, [n, P, 2].
        real: `border_means` of m real images, or of m sums over images, [m, P, 2].
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
    """Each kind of border's ratio of means over images, in which flat images weigh little."""
    border, within = np.moveaxis(means.mean(axis=0), -1, 0)
    ratios: list[float] = ((border + FLAT) / (within + FLAT)).tolist()
    return ratios
