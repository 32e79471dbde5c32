"""Laws of the kernel distance."""

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from evaluation.metrics.kid import kernel_distance, unbiased_mmd

Floats = NDArray[np.float64]
seeds = st.integers(0, 2**32 - 1)


def rows(seed: int, count: int, dim: int) -> Floats:
    return np.random.default_rng(seed).normal(size=(count, dim))


def literal_kid(x: Floats, y: Floats) -> float:
    def kernel(a: Floats, b: Floats) -> float:
        return float((a @ b / len(a) + 1) ** 3)

    within_x = sum(kernel(a, b) for a, b in permutations(x, 2)) / (len(x) * (len(x) - 1))
    within_y = sum(kernel(a, b) for a, b in permutations(y, 2)) / (len(y) * (len(y) - 1))
    across = sum(kernel(a, b) for a, b in product(x, y)) / (len(x) * len(y))
    return within_x + within_y - 2 * across


@settings(max_examples=20, deadline=None)
@given(seeds, st.integers(2, 9), st.integers(2, 9), st.integers(1, 5))
def test_the_distance_of_two_subsets_equals_a_literal_double_loop(
    seed: int, n: int, m: int, dim: int
) -> None:
    x, y = rows(seed, n, dim), rows(seed + 1, m, dim)
    scale = 1 + abs(literal_kid(x, np.zeros_like(x)))
    assert unbiased_mmd(x, y) == pytest.approx(literal_kid(x, y), rel=1e-6, abs=1e-6 * scale)


def test_kid_of_one_distribution_is_nothing_on_average_and_its_error_says_how_far_off() -> None:
    random = np.random.default_rng(0)
    found = [kernel_distance(*random.normal(size=(2, 60, 3)), seed=draw, subsets=40) for draw in range(150)]
    values, errors = np.array([kid.value for kid in found]), np.array([kid.error for kid in found])
    assert abs(values.mean()) < 4 * values.std() / np.sqrt(len(values))
    assert 0.7 < np.sqrt((errors**2).mean()) / values.std() < 1.5


def test_the_error_of_sets_apart_is_how_much_other_draws_differ() -> None:
    random = np.random.default_rng(1)
    found = [
        kernel_distance(
            random.normal(size=(120, 4)), random.normal(size=(200, 4)) + 0.7, seed=draw, subset=30
        )
        for draw in range(60)
    ]
    values, errors = np.array([kid.value for kid in found]), np.array([kid.error for kid in found])
    assert 0.7 < np.sqrt((errors**2).mean()) / values.std() < 1.6


def test_kid_depends_on_the_seed_of_its_subsets_alone() -> None:
    x, y = rows(0, 60, 4), rows(1, 50, 4)
    first, again, other = (kernel_distance(x, y, seed, subsets=5, subset=20) for seed in (3, 3, 4))
    assert first == again != other


def test_three_images_have_no_kid() -> None:
    with pytest.raises(ValueError, match="expected at least 4 each"):
        kernel_distance(rows(0, 3, 2), rows(1, 9, 2), seed=0)


def test_features_of_unlike_width_have_no_kid() -> None:
    with pytest.raises(ValueError, match="3 and of 4 dimensions"):
        kernel_distance(rows(0, 9, 3), rows(1, 9, 4), seed=0)
