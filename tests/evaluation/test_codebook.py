"""Laws of codebook usage."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.codes.codebook import effective_rank, neighbour_distance, perplexity, usage


def test_codes_used_equally_often_have_the_perplexity_of_their_number() -> None:
    counts = np.array([5, 5, 0, 5, 0])
    assert perplexity(counts) == pytest.approx(3)
    assert usage(counts) == pytest.approx(0.6)


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=40).filter(any))
def test_perplexity_lies_between_one_and_the_codes_used(counts: list[int]) -> None:
    found = np.array(counts)
    assert 1 - 1e-9 <= perplexity(found) <= usage(found) * len(counts) + 1e-9


def test_nothing_counted_has_no_perplexity() -> None:
    with pytest.raises(ValueError, match="no code was chosen"):
        perplexity(np.zeros(4, np.int64))


def test_codes_on_a_line_have_rank_one() -> None:
    codebook = np.outer(np.arange(9.0), np.array([1.0, -2.0, 3.0])) + 5
    assert effective_rank(codebook) == pytest.approx(1)


def test_codes_at_the_ends_of_all_axes_have_full_rank() -> None:
    assert effective_rank(np.concatenate([np.eye(4), -np.eye(4)])) == pytest.approx(4)


def test_equal_codes_have_rank_nothing() -> None:
    assert effective_rank(np.ones((6, 3))) == 0


def test_the_distance_to_the_nearest_code_forgets_scale_and_place() -> None:
    codebook = np.random.default_rng(0).normal(size=(30, 5))
    literal = [
        min(np.linalg.norm(a - b) for j, b in enumerate(codebook) if j != i) for i, a in enumerate(codebook)
    ]
    radius = np.sqrt(((codebook - codebook.mean(axis=0)) ** 2).sum(axis=1).mean())
    assert neighbour_distance(codebook) == pytest.approx(np.mean(literal) / radius)
    assert neighbour_distance(7 * codebook + 3) == pytest.approx(neighbour_distance(codebook))


def test_codes_that_have_a_twin_have_no_distance_to_it() -> None:
    codebook = np.random.default_rng(0).normal(size=(9, 4))
    assert neighbour_distance(np.concatenate([codebook, codebook])) == 0
    assert neighbour_distance(np.ones((6, 3))) == 0
