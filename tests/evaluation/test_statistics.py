"""Laws of the distances between sets of features."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from evaluation.metrics.statistics import (
    Moments,
    frechet_distance,
    frechet_interval,
    inception_score,
    moments,
    precision_recall,
    within_class_variance,
)

Floats = NDArray[np.float64]
seeds = st.integers(0, 2**32 - 1)


def rows(seed: int, count: int, dim: int) -> Floats:
    random = np.random.default_rng(seed)
    return random.normal(size=(count, dim)) @ random.normal(size=(dim, dim)) + random.normal(size=dim)


def test_daisies_and_roses_are_299_137_apart(inception_features: Path) -> None:
    with np.load(inception_features, allow_pickle=False) as found:
        distance = frechet_distance(moments(found["daisy"]), moments(found["roses"]))
    assert distance == pytest.approx(299.137, rel=1e-5)


@settings(max_examples=20, deadline=None)
@given(seeds, st.integers(2, 30), st.integers(1, 12))
def test_a_set_has_no_distance_to_itself(seed: int, count: int, dim: int) -> None:
    a = moments(rows(seed, count, dim))
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-5 * (1 + np.trace(a.covariance)))


@settings(max_examples=20, deadline=None)
@given(seeds, st.integers(2, 30), st.integers(2, 30), st.integers(1, 12))
def test_the_frechet_distance_is_symmetric_and_not_negative(seed: int, n: int, m: int, dim: int) -> None:
    a, b = moments(rows(seed, n, dim)), moments(rows(seed + 1, m, dim))
    scale = 1 + np.trace(a.covariance) + np.trace(b.covariance)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), abs=1e-5 * scale)
    assert frechet_distance(a, b) >= 0


@given(seeds, st.integers(1, 12))
def test_gaussians_with_diagonal_covariances_follow_the_closed_form(seed: int, dim: int) -> None:
    random = np.random.default_rng(seed)
    (mean_a, mean_b), (var_a, var_b) = random.normal(size=(2, dim)), random.uniform(0, 4, size=(2, dim))
    found = frechet_distance(Moments(9, mean_a, np.diag(var_a)), Moments(9, mean_b, np.diag(var_b)))
    expected = ((mean_a - mean_b) ** 2).sum() + ((np.sqrt(var_a) - np.sqrt(var_b)) ** 2).sum()
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_features_of_unlike_width_have_no_distance() -> None:
    with pytest.raises(ValueError, match="3 and of 4 dimensions"):
        frechet_distance(moments(rows(0, 9, 3)), moments(rows(0, 9, 4)))


def test_one_image_has_no_moments() -> None:
    with pytest.raises(ValueError, match="1 images have no covariance"):
        moments(np.zeros((1, 4)))


def test_features_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        moments(np.array([[0.0, 1.0], [np.nan, 0.0]]))


@settings(max_examples=20, deadline=None)
@given(seeds, st.integers(2, 30), st.integers(1, 12))
def test_the_order_of_images_does_not_matter(seed: int, count: int, dim: int) -> None:
    x, y = rows(seed, count, dim), rows(seed + 1, count, dim)
    found = frechet_distance(moments(x), moments(y[::-1]))
    assert found == pytest.approx(frechet_distance(moments(x), moments(y)), rel=1e-6, abs=1e-6)


@settings(max_examples=20, deadline=None)
@given(seeds, st.integers(1, 8))
def test_gaussians_with_commuting_covariances_follow_the_closed_form(seed: int, dim: int) -> None:
    random = np.random.default_rng(seed)
    turn = np.linalg.qr(random.normal(size=(dim, dim)))[0]
    (mean_a, mean_b), (var_a, var_b) = random.normal(size=(2, dim)), random.uniform(0, 4, size=(2, dim))
    a, b = (
        Moments(99, mean, turn @ np.diag(var) @ turn.T) for mean, var in ((mean_a, var_a), (mean_b, var_b))
    )
    expected = ((mean_a - mean_b) ** 2).sum() + ((np.sqrt(var_a) - np.sqrt(var_b)) ** 2).sum()
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_a_covariance_that_is_singular_though_images_are_many_has_its_distance() -> None:
    x, y = rows(0, 90, 6), rows(1, 90, 6)
    wide_x, wide_y = (np.concatenate([side, np.zeros((90, 3)), side[:, :1]], axis=1) for side in (x, y))
    doubled_x, doubled_y = (np.concatenate([side[:, :1] * 2**0.5, side[:, 1:]], axis=1) for side in (x, y))
    found = frechet_distance(moments(wide_x), moments(wide_y))
    assert found == pytest.approx(frechet_distance(moments(doubled_x), moments(doubled_y)), rel=1e-6)


@pytest.mark.parametrize(("count", "dim"), [(40, 6), (12, 30)])
def test_the_interval_is_that_of_a_literal_bootstrap(count: int, dim: int) -> None:
    real, made = moments(rows(0, 80, dim)), rows(1, count, dim)
    random, found = np.random.default_rng(5), []
    for _ in range(8):
        times = random.multinomial(count, np.full(count, 1 / count))
        found.append(frechet_distance(real, moments(np.repeat(made, times, axis=0))))
    interval, estimate = (
        frechet_interval(real, made, seed=5, resamples=8),
        frechet_distance(real, moments(made)),
    )
    assert interval.high - estimate == pytest.approx(1.959964 * np.std(found, ddof=1), rel=1e-5)
    assert interval.low == pytest.approx(max(0, 2 * estimate - interval.high), abs=1e-9)


def test_the_interval_covers_other_draws_of_as_many_images() -> None:
    random = np.random.default_rng(0)
    real = moments(random.normal(size=(400, 4)))
    draws = [random.normal(size=(100, 4)) * 1.2 + 0.3 for _ in range(60)]
    centre = np.mean([frechet_distance(real, moments(made)) for made in draws])
    intervals = [frechet_interval(real, made, seed=0, resamples=40) for made in draws]
    covered = np.mean([interval.low <= centre <= interval.high for interval in intervals])
    assert covered > 0.8


def test_the_score_of_certain_and_balanced_predictions_is_the_number_of_classes() -> None:
    logits = np.tile(50 * np.eye(4), (50, 1))
    assert inception_score(logits, seed=0, splits=1).mean == pytest.approx(4, rel=1e-6)


def test_the_score_of_equal_predictions_is_one() -> None:
    assert inception_score(np.ones((30, 5)), seed=0).mean == pytest.approx(1)


def test_a_set_covers_itself_and_nothing_far_away() -> None:
    x = rows(0, 40, 3)
    same, far = precision_recall(x, x), precision_recall(x, x + 1e4)
    assert (same.precision, same.recall) == (1, 1)
    assert (far.precision, far.recall) == (0, 0)


@settings(max_examples=20, deadline=None)
@given(seeds, st.integers(5, 12), st.integers(5, 12))
def test_precision_and_recall_equal_a_literal_search_of_balls(seed: int, n: int, m: int) -> None:
    real, fake = rows(seed, n, 2), rows(seed + 1, m, 2)

    def covered(points: Floats, centres: Floats) -> float:
        radii = [sorted(np.linalg.norm(centres - centre, axis=1))[3] for centre in centres]
        inside = [
            any(np.linalg.norm(p - c) <= r for c, r in zip(centres, radii, strict=True)) for p in points
        ]
        return float(np.mean(inside))

    found = precision_recall(real, fake)
    assert found.precision == pytest.approx(covered(fake, real))
    assert found.recall == pytest.approx(covered(real, fake))


def test_precision_needs_more_rows_than_neighbours() -> None:
    with pytest.raises(ValueError, match="expected more than 3 each"):
        precision_recall(rows(0, 3, 2), rows(0, 9, 2))


def test_the_variance_within_classes_forgets_where_the_classes_lie() -> None:
    x = rows(0, 40, 3)
    classes = np.arange(40) % 4
    moved = x + 100.0 * classes[:, None]
    assert within_class_variance(moved, classes) == pytest.approx(within_class_variance(x, classes))


def test_the_variance_within_one_class_is_the_trace_of_its_covariance() -> None:
    x = rows(0, 20, 3)
    expected = np.trace(np.cov(x, rowvar=False))
    assert within_class_variance(x, np.zeros(20, np.int64)) == pytest.approx(expected)


def test_classes_of_one_image_have_no_variance_within() -> None:
    with pytest.raises(ValueError, match="no class has 2 images"):
        within_class_variance(rows(0, 3, 2), np.arange(3))
