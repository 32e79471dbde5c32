"""How much of a codebook is used, and how its codes are spread."""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree


def usage(counts: NDArray[np.integer]) -> float:
    """Share of the K codes chosen at least once, from their counts [K]."""
    return float((counts > 0).mean())


def perplexity(counts: NDArray[np.integer]) -> float:
    """exp of the entropy of the codes' frequencies: 1 for a single code, K if all are equally frequent.

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

    Between 1 (all codes on a line) and min(K - 1, D); 0 if all codes are equal.
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
    """Mean Euclidean distance of the codes [K, D], K ≥ 2, to their nearest other code.

    Divided by the codes' root mean square distance to their centre, to make codebooks of different scales comparable: 0 if
    every code has a duplicate, about √2 if the codes are spread in all directions.
    """
    codes = codebook.astype(np.float64)
    nearest = KDTree(codes).query(codes, k=2)[0][:, 1]
    radius = np.sqrt(((codes - codes.mean(axis=0)) ** 2).sum(axis=1).mean())
    return float(nearest.mean() / radius) if radius else 0.0
