"""Images and statistics that are given: whether they fit the reference, and what ADM's reference files hold."""

from pathlib import Path

import numpy as np

from evaluation.features.reference import Reference
from evaluation.metrics.statistics import FEWEST, Moments
from shards.npz import COVARIANCE, MEAN, arrays_in
from shards.samples import SampleFacts
from workspace.errors import UserError
from workspace.exact.manifest import facts_of, read_manifest, sha256_file

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


def require_comparable(images: Path, count: int | None, reference: Reference, remedy: str) -> None:
    """Check that images can be held against the reference, before any feature is computed.

    Args:
        images: an artifact of samples.
        count: how many of it are scored; None scores all.
        reference: what they are scored by.
        remedy: what to do about it, the end of the message.

    Raises:
        UserError: too few, of another size, or with other classes.
    """
    facts, found = reference.facts, facts_of(SampleFacts, read_manifest(images, "samples"))
    count = found.count if count is None else count
    if found.image_size != facts.image_size or not FEWEST <= count <= found.count:
        raise UserError(
            f"{images} holds {found.count} images of {found.image_size} pixels; expected at least "
            f"{max(count, FEWEST)} of {facts.image_size}{remedy}"
        )
    if found.classes is not None and found.classes != facts.classes:
        raise UserError(
            f"{images} has other classes than the reference: run `dvc repro evaluate`, or score images without"
        )
