"""Real images that others gave, as statistics of their features: what ADM's reference files hold."""

from pathlib import Path

import numpy as np

from evaluation.metrics.statistics import Moments
from shards.npz import COVARIANCE, MEAN, arrays_in
from workspace.errors import UserError
from workspace.exact.manifest import sha256_file

UNKNOWN = 0
"""Images behind statistics that do not say how many they are of."""
SYMMETRIC = 1e-6
"""How far a covariance may be from its transpose, in shares of its largest entry."""


def statistics_of(path: Path, features: str, dim: int) -> tuple[Moments, str]:
    """Mean and covariance of an .npz, `mu` [D] and `sigma` [D, D], and the file's SHA-256.

    Args:
        path: the file.
        features: the extractor that scored images go through.
        dim: its D.

    Raises:
        UserError: the arrays are missing, of other features, not finite, or not a covariance.
    """
    arrays = arrays_in(path)
    if not {MEAN, COVARIANCE} <= arrays.keys():
        raise UserError(
            f"{path} holds {', '.join(arrays) or 'nothing'}; expected {MEAN} [D] and {COVARIANCE} [D, D]"
        )
    mean, covariance = (np.asarray(arrays[name], np.float64) for name in (MEAN, COVARIANCE))
    if mean.shape != (dim,) or covariance.shape != (dim, dim):
        raise UserError(
            f"{path} holds statistics of {mean.size:,} features, and reference.features {features} has {dim:,}; expected "
            f"{MEAN} [{dim}] and {COVARIANCE} [{dim}, {dim}] of the same features (ADM's are Inception's)"
        )
    if not np.isfinite(mean).all() or not np.isfinite(covariance).all():
        raise UserError(f"{path} holds a number that is not finite")
    if np.abs(covariance - covariance.T).max() > SYMMETRIC * np.abs(covariance).max():
        raise UserError(f"{path}: {COVARIANCE} is not symmetric, so it is not a covariance")
    return Moments(UNKNOWN, mean, covariance), sha256_file(path)
