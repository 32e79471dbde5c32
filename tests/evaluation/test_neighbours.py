"""Laws of the search for neighbours and of the scores made from it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation import neighbours
from evaluation.neighbours import Neighbours, copy_scores, nearest


def rows(count: int, dim: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)


def literal(images: np.ndarray, training: np.ndarray, count: int) -> tuple[list[list[int]], np.ndarray]:
    """Every distance in float64, sorted; the earlier row first where two are equal."""
    items, distances = [], []
    for image in images.astype(np.float64):
        every = [float(np.sqrt(((image - other) ** 2).sum())) for other in training.astype(np.float64)]
        order = sorted(range(len(every)), key=lambda i: (every[i], i))[:count]
        items.append(order)
        distances.append([every[i] for i in order])
    return items, np.array(distances)


@given(st.integers(1, 9), st.integers(1, 40), st.integers(1, 12), st.integers(1, 6), st.integers(0, 99))
def test_neighbours_are_those_of_the_whole_table_of_distances(n, m, dim, count, seed):
    images, training = rows(n, dim, seed), rows(m, dim, seed + 1)
    found = nearest(images, training, count)
    items, distances = literal(images, training, count)
    assert found.items.tolist() == items
    np.testing.assert_allclose(found.distances, distances, rtol=1e-12)


def test_tiles_change_nothing(monkeypatch):
    images, training = rows(50, 8, 0), rows(300, 8, 1)
    whole = nearest(images, training, 3)
    monkeypatch.setattr(neighbours, "ROWS", 7)
    monkeypatch.setattr(neighbours, "COLUMNS", 11)
    tiled = nearest(images, training, 3)
    np.testing.assert_array_equal(tiled.items, whole.items)
    np.testing.assert_array_equal(tiled.distances, whole.distances)


def test_a_copy_is_at_distance_0_even_far_from_the_origin():
    training = rows(40, 16, 2) + np.float32(1000)
    found = nearest(training[[5, 31]], training, 2)
    assert found.items[:, 0].tolist() == [5, 31]
    assert (found.distances[:, 0] == 0).all()
    assert (found.distances[:, 1] > 0).all()


def test_of_equal_images_the_first_is_named():
    training = np.repeat(rows(3, 4, 3), 30, axis=0)
    assert nearest(training[[45]], training, 2).items.tolist() == [[30, 31]]


def test_rows_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="expected .n, D., .m ≥ 1, D."):
        nearest(rows(2, 3, 0), rows(2, 4, 0), 1)
    with pytest.raises(ValueError, match="expected .n, D., .m ≥ 1, D."):
        nearest(rows(2, 3, 0), rows(0, 3, 0), 1)


def test_what_is_saved_is_read_back(tmp_path):
    found = Neighbours(
        np.array([[3, 1]]), np.array([[0.5, 2.0]], np.float32), np.array([1.0, 4.0], np.float32)
    )
    found.save(tmp_path)
    for name, values in vars(Neighbours.load(tmp_path)).items():
        np.testing.assert_array_equal(values, getattr(found, name))


@given(st.integers(200, 600), st.integers(0, 99))
def test_held_out_images_themselves_are_no_copies_and_copies_are(count, seed):
    distances = np.random.default_rng(seed).gamma(9, 1, count)
    same = copy_scores("proxy", distances, distances, training=1000)
    assert same["proxy_nearest_train_ratio"].value == 1
    assert same["proxy_close_copies"].value <= 0.01 + 1 / count
    copied = copy_scores("inception", np.zeros(count), distances, training=1000)
    assert copied["nearest_train_ratio"].value == 0
    assert copied["close_copies"].value == 1
    assert "among 1,000 training images" in copied["close_copies"].estimator
