"""Laws of the pictures."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reporting.figures import (
    COLUMNS,
    GAP,
    MARGIN,
    PANEL,
    figure4,
    heat_map,
    image_grid,
    importance,
    kept_cells,
)

LUMINANCE = np.array([0.299, 0.587, 0.114])


@st.composite
def scored_grids(draw):
    grid = (draw(st.integers(1, 5)), draw(st.integers(1, 6)))
    cells = grid[0] * grid[1]
    scores = draw(st.lists(st.floats(0, 1, width=32), min_size=cells, max_size=cells))
    return grid, np.array(scores, dtype=np.float32)


def images(count: int, size: tuple[int, int] = (8, 8)) -> np.ndarray:
    return np.random.default_rng(0).integers(1, 256, (count, *size, 3)).astype(np.uint8)


@given(scored_grids())
def test_a_higher_score_is_never_drawn_darker(example):
    grid, scores_L = example
    light = heat_map(scores_L, grid, grid).reshape(-1, 3) @ LUMINANCE
    order = np.argsort(scores_L, kind="stable")
    assert (np.diff(light[order]) >= -0.51).all()
    if scores_L.max() > scores_L.min():
        assert light[scores_L.argmax()] > light[scores_L.argmin()] + 200


@given(scored_grids(), st.integers(1, 3))
def test_a_cell_is_one_colour_over_all_its_pixels(example, times):
    grid, scores_L = example
    small = heat_map(scores_L, grid, grid)
    large = heat_map(scores_L, grid, (grid[0] * times, grid[1] * times))
    np.testing.assert_array_equal(large, small.repeat(times, axis=0).repeat(times, axis=1))


@given(scored_grids(), st.data())
def test_kept_cells_keep_their_pixels_and_masked_ones_fade_to_grey(example, data):
    grid, _ = example
    kept_N = np.array(sorted(data.draw(st.sets(st.integers(0, grid[0] * grid[1] - 1)))), dtype=np.int64)
    image = images(1, (grid[0] * 4, grid[1] * 4))[0]
    drawn = kept_cells(image, kept_N, grid)
    kept = np.zeros(grid[0] * grid[1], dtype=bool)
    kept[kept_N] = True
    pixels = kept.reshape(grid).repeat(4, axis=0).repeat(4, axis=1)
    np.testing.assert_array_equal(drawn[pixels], image[pixels])
    masked = drawn[~pixels].astype(int)
    assert (masked == masked[:, :1]).all()
    assert masked.size == 0 or np.ptp(masked) <= 0.21 * 255


def test_equal_scores_tint_every_cell_alike():
    assert (
        len(np.unique(heat_map(np.full(4, 0.5, dtype=np.float32), (2, 2), (4, 4)).reshape(-1, 3), axis=0))
        == 1
    )


def test_importance_still_shows_the_input_through_the_heat():
    image = images(1)[0]
    drawn = importance(image, np.zeros(4, dtype=np.float32), (2, 2))
    assert np.corrcoef((drawn @ LUMINANCE).ravel(), (image @ LUMINANCE).ravel())[0, 1] > 0.99


@pytest.mark.parametrize(("count", "columns", "scale"), [(1, 4, 1), (5, 2, 3), (6, 6, 2)])
def test_a_grid_holds_every_image_at_its_scale(count, columns, scale):
    pictures = images(count)
    page = np.asarray(image_grid(pictures, columns, scale, None))
    across, down = min(columns, count), -(-count // min(columns, count))
    step = 8 * scale + GAP
    assert page.shape == (2 * MARGIN + down * step - GAP, 2 * MARGIN + across * step - GAP, 3)
    last = count - 1
    y, x = MARGIN + last // across * step, MARGIN + last % across * step
    shown = page[y : y + 8 * scale : scale, x : x + 8 * scale : scale]
    np.testing.assert_array_equal(shown, pictures[last])


def test_labels_widen_rows_not_columns_and_long_ones_are_cut():
    plain = image_grid(images(4), 2, 8, None)
    labelled = image_grid(images(4), 2, 8, ["a", "a long label " * 9, "", "日本"])
    assert labelled.width == plain.width
    assert labelled.height > plain.height


def test_figure4_draws_four_panels_a_row():
    picture = figure4(
        images(3), np.random.default_rng(1).random((3, 4)), np.array([[0], [1], [3]]), images(3), (2, 2)
    )
    scale = PANEL // 8
    assert picture.width == 2 * MARGIN + len(COLUMNS) * (8 * scale + GAP) - GAP
    page = np.asarray(picture)
    x = MARGIN + 3 * (8 * scale + GAP)
    top = picture.height - MARGIN - 8 * scale
    shown = page[top : top + 8 * scale : scale, x : x + 8 * scale : scale]
    np.testing.assert_array_equal(shown, images(3)[2])


def test_arrays_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="do not fit each other"):
        figure4(images(2), np.zeros((1, 4)), np.zeros((2, 1), dtype=int), images(2), (2, 2))
    with pytest.raises(ValueError, match="expected .4,. for a grid"):
        heat_map(np.zeros(3, dtype=np.float32), (2, 2), (4, 4))
    with pytest.raises(ValueError, match="are not in a grid"):
        kept_cells(images(1)[0], np.array([4]), (2, 2))
    with pytest.raises(ValueError, match="1 labels for 2 images"):
        image_grid(images(2), 2, 1, ["one"])
    with pytest.raises(ValueError, match="expected at least one"):
        image_grid(images(0), 2, 1, None)
