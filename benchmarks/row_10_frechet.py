"""Row 10: the Fréchet distance of two sets of 10,000 × 2,048 features, ours against clean-fid's matrix root."""

import warnings
from collections.abc import Iterable

import numpy as np

from benchmarks.clean_fid import load_clean_fid
from benchmarks.harness import Claim, Floor, Result, alternate, at_least, main, measured, seconds
from evaluation.metrics.statistics import frechet_distance, moments

COUNT, DIM = 10_000, 2048


def features(seed: int) -> np.ndarray:
    """float32 [COUNT, DIM] with a covariance whose spectrum falls as Inception's does, about."""
    random = np.random.default_rng(seed)
    mix = random.normal(size=(DIM, DIM)).astype(np.float32) * np.arange(1, DIM + 1, dtype=np.float32) ** -0.7
    return random.normal(size=(COUNT, DIM)).astype(np.float32) @ mix.T + np.float32(0.1 * seed)


def measure() -> Iterable[Result]:
    """From mean and covariance to the distance; both distances are compared."""
    clean_fid = load_clean_fid()
    warnings.simplefilter("ignore", DeprecationWarning)  # sqrtm(disp=), which clean-fid uses
    first, second = features(0), features(1)
    a, b = moments(first), moments(second)
    ours = frechet_distance(a, b)
    theirs = clean_fid.frechet_distance(a.mean, a.covariance, b.mean, b.covariance)
    apart = abs(ours / theirs - 1)
    assert apart < 1e-6, f"{ours} against {theirs}"
    multiply = min(seconds(lambda: a.covariance @ b.covariance) for _ in range(3))
    shapes = {"features": COUNT, "dimensions": DIM}
    claim = Claim(
        row=10,
        name="frechet",
        title="Fréchet step at 2,048 dimensions, from mean and covariance",
        unit="s",
        better="lower",
        against="clean-fid's frechet_distance (scipy.linalg.sqrtm)",
        bar=at_least(5),
    )
    pairs = alternate(
        lambda: seconds(lambda: frechet_distance(a, b)),
        lambda: seconds(lambda: clean_fid.frechet_distance(a.mean, a.covariance, b.mean, b.covariance)),
        pairs=2,
        warm_up=False,
    )
    yield measured(
        claim,
        pairs,
        shapes,
        note=f"the distances differ by {apart:.1e} of themselves",
        floor=Floor(
            11 / 6 * multiply,
            "arithmetic of a Cholesky factor, two products with it (one triangular) and a symmetric matrix's eigenvalues "
            "(11/3 n³ operations) at the speed of one product of two matrices (2 n³)",
        ),
    )


if __name__ == "__main__":
    main(measure)
