"""Does the importance map find the object? Rank AUC of the cells' scores against the ground-truth mask.

Cells are in raster order, L = rows × columns of the grid. A cell is *object* if the object covers 25 % or more of it, and
*background* if it does not touch it; other cells are left out. The AUC is computed within each image, because the model ranks
the cells of one image against each other, and averaged over images.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

OBJECT_FROM = 0.25
CONVENTION = "rank AUC within each image, cells with ≥ 25 % object against cells with none, mean over images"


def object_share(mask: NDArray[np.uint8], grid: tuple[int, int]) -> Floats:
    """Share of each cell that the object covers: mask [H, W], 255 inside, grey at the edge → [L].

    Raises:
        ValueError: the grid does not divide the mask.
    """
    return _cell_means(mask.astype(np.float64) / 255, grid)


def gradient_magnitude(image: NDArray[np.uint8], grid: tuple[int, int]) -> Floats:
    """A baseline without knowledge of objects: mean |∇ luma| of each cell of an image [H, W, 3] → [L], ≥ 0."""
    luma = image.astype(np.float64) @ np.array([0.299, 0.587, 0.114]) / 255
    down, right = np.gradient(luma)
    return _cell_means(np.hypot(down, right), grid)


def mask_auc(scores: NDArray[np.floating], share: Floats) -> float | None:
    """AUC of an image's scores [L] against its object shares [L]; None without object cells or without background cells."""
    is_object, is_background = share >= OBJECT_FROM, share == 0
    if not is_object.any() or not is_background.any():
        return None
    chosen = is_object | is_background
    return rank_auc(scores[chosen], is_object[chosen])


def rank_auc(scores: NDArray[np.floating], positive: NDArray[np.bool_]) -> float:
    """How often a positive's score exceeds a negative's; ties count half (Mann-Whitney U / (n₊ n₋)).

    Raises:
        ValueError: no positives, or no negatives.
    """
    n_positive = int(positive.sum())
    n_negative = positive.size - n_positive
    if n_positive == 0 or n_negative == 0:
        raise ValueError(
            f"AUC of {n_positive} positives and {n_negative} negatives; expected at least 1 each"
        )
    if np.isnan(scores).any():
        return float("nan")
    # Equal scores share their mean rank, as in scipy.stats.rankdata, whose import takes half a second.
    _, place, ties = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = np.cumsum(ties) - (ties - 1) / 2
    rank_sum = float(ranks[place][positive].sum())
    return (rank_sum - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative)


def _cell_means(values: Floats, grid: tuple[int, int]) -> Floats:
    rows, columns = grid
    height, width = values.shape
    if height % rows or width % columns:
        raise ValueError(f"a grid of {rows}×{columns} cells does not divide {height}×{width} pixels")
    cells = values.reshape(rows, height // rows, columns, width // columns)
    return cells.mean(axis=(1, 3)).reshape(-1)
