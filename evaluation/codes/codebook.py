"""How much of a codebook is in use, and how its codes lie to each other."""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree


def usage(counts: NDArray[np.integer]) -> float:
    """Share of the K codes that were chosen at least once, from their counts [K]."""
    return float((counts > 0).mean())


def perplexity(counts: NDArray[np.integer]) -> float:
    """exp of the entropy of the codes' frequencies: 1 for a single code, K for all equally often.

    Raises:
        ValueError: nothing was counted.
    """
    total = counts.sum()
    if total == 0:
        raise ValueError("no code was chosen, so there is no perplexity")
    p = counts[counts > 0] / total
    return float(np.exp(-(p * np.log(p)).sum()))


def effective_rank(codebook: NDArray[np.floating]) -> float:
    """exp entropy of the normalised singular values of the centred codebook [K, D] (Roy & Vetterli 2007).

    Between 1 (all codes on a line) and min(K - 1, D); 0 where all codes are the same.
    """
    values = np.linalg.svd(
        codebook.astype(np.float64) - codebook.mean(axis=0, dtype=np.float64), compute_uv=False
    )
    values = values[values > values.max(initial=0.0) * 1e-12]
    if values.size == 0:
        return 0.0
    p = values / values.sum()
    return float(np.exp(-(p * np.log(p)).sum()))


def neighbour_distance(codebook: NDArray[np.floating]) -> float:
    """Mean over the codes [K, D], K ≥ 2, of the Euclidean distance to the nearest other code.

    Beside the codes' distance to their centre (root mean square), so that codebooks of other scales can be compared:
    0 where every code has a twin; about √2 where the codes lie apart in all directions.
    """
    codes = codebook.astype(np.float64)
    nearest = KDTree(codes).query(codes, k=2)[0][:, 1]
    radius = np.sqrt(((codes - codes.mean(axis=0)) ** 2).sum(axis=1).mean())
    return float(nearest.mean() / radius) if radius else 0.0
