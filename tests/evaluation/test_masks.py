"""Laws of the importance map's AUC."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.masks import gradient_magnitude, mask_auc, object_share, rank_auc

scored = st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=30)


@given(scored)
def test_auc_equals_brute_force_over_pairs(cells: list[tuple[int, bool]]) -> None:
    scores = np.array([score for score, _ in cells], np.float64)
    positive = np.array([flag for _, flag in cells])
    if positive.all() or not positive.any():
        with pytest.raises(ValueError, match="expected at least 1 each"):
            rank_auc(scores, positive)
        return
    pairs = [(p > n) + 0.5 * (p == n) for p in scores[positive] for n in scores[~positive]]
    assert rank_auc(scores, positive) == pytest.approx(np.mean(pairs))


@given(scored)
def test_auc_does_not_change_with_a_monotone_scale_and_turns_with_the_sign(
    cells: list[tuple[int, bool]],
) -> None:
    scores = np.array([score for score, _ in cells], np.float64)
    positive = np.array([flag for _, flag in cells])
    if positive.any() and not positive.all():
        assert rank_auc(np.exp(scores), positive) == pytest.approx(rank_auc(scores, positive))
        assert rank_auc(-scores, positive) == pytest.approx(1 - rank_auc(scores, positive))


def test_object_share_is_the_part_of_each_cell_that_the_object_covers() -> None:
    mask = np.zeros((4, 6), np.uint8)
    mask[0, 0] = 255
    mask[2:, 3:] = 255
    mask[2, 0] = 51
    np.testing.assert_allclose(object_share(mask, (2, 2)), [1 / 6, 0, 0.2 / 6, 1])


def test_cells_with_a_little_object_are_left_out() -> None:
    share = np.array([1.0, 0.25, 0.1, 0.0])
    assert mask_auc(np.array([3.0, 2.0, 0.0, 1.0]), share) == 1.0
    assert mask_auc(np.array([3.0, 2.0, 9.0, 1.0]), share) == 1.0


def test_an_image_without_background_has_no_auc() -> None:
    assert mask_auc(np.array([1.0, 2.0]), np.array([0.5, 1.0])) is None
    assert mask_auc(np.array([1.0, 2.0]), np.array([0.0, 0.2])) is None


def test_the_gradient_is_where_the_edge_is() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    image[:, 4:] = 255
    cells = gradient_magnitude(image, (2, 4)).reshape(2, 4)
    assert (cells[:, 1:3] > 0).all()
    np.testing.assert_allclose(cells[:, [0, 3]], 0)


def test_a_grid_that_does_not_divide_the_mask_is_refused() -> None:
    with pytest.raises(ValueError, match="does not divide 8×8"):
        object_share(np.zeros((8, 8), np.uint8), (3, 3))
