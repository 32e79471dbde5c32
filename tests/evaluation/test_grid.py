"""Laws of the grid's ratio: 1 where nothing knows of the grid, above where tiles show, and sums merge."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from evaluation.metrics.grid import Grid, border_means, grid_scores, step_sums

GRID = Grid(cell=8, stem=2)
Pixels = NDArray[np.uint8]


def ratios(images: Pixels, grid: Grid = GRID, real: Pixels | None = None) -> dict[str, float]:
    made, others = (border_means(step_sums(of), grid) for of in (images, images if real is None else real))
    found = grid_scores(grid.periods(images.shape[1]), made, others)
    return {name: score.value for name, score in found.items()}


def noise(count: int = 16, side: int = 32, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(40, 200, (count, side, side, 3), dtype=np.uint8)


def with_tiles(images: Pixels, cell: int, levels: int) -> Pixels:
    """Every second tile of a chess board brighter."""
    rows = np.arange(images.shape[1]) // cell
    return images + (levels * ((rows[:, None] + rows) % 2)).astype(np.uint8)[..., None]


@pytest.mark.parametrize("level", [0, 77, 255])
def test_flat_images_have_the_ratio_one(level: int) -> None:
    assert set(ratios(np.full((2, 32, 32, 3), level, np.uint8)).values()) == {1.0}


@given(st.integers(0, 2**32))
def test_noise_has_about_one(seed: int) -> None:
    found = ratios(noise(seed=seed))
    assert found["grid_ratio_cells"] == pytest.approx(1, abs=0.03)
    assert found["grid_ratio_stem"] == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize(("cell", "name"), [(8, "cells"), (2, "stem")])
def test_tiles_show_and_more_the_more_they_differ(cell: int, name: str) -> None:
    smooth = np.broadcast_to(np.arange(32, dtype=np.uint8)[:, None], (4, 32, 32))[..., None].repeat(
        3, axis=-1
    )
    found = [
        ratios(with_tiles(smooth, cell, levels), real=smooth)[f"grid_ratio_{name}_to_real"]
        for levels in (0, 3, 9)
    ]
    assert found[0] == 1
    assert 1.5 < found[1] < found[2]


@given(st.integers(1, 7), st.integers(0, 99))
def test_sums_of_parts_are_those_of_the_whole(cut: int, seed: int) -> None:
    images = noise(8, 16, seed)
    parts = step_sums(images[:cut]).sum(axis=0) + step_sums(images[cut:]).sum(axis=0)
    np.testing.assert_array_equal(parts, step_sums(images).sum(axis=0))
    np.testing.assert_allclose(
        border_means(parts / 8, GRID), border_means(step_sums(images), GRID).mean(axis=0), rtol=1e-12
    )


def test_rows_and_columns_are_alike() -> None:
    images = with_tiles(noise(), 8, 9)
    assert ratios(images) == pytest.approx(ratios(images.transpose(0, 2, 1, 3)))


def test_sums_are_those_of_a_loop() -> None:
    images = noise(1, 6)
    across = [np.abs(images[0, :, at + 1].astype(int) - images[0, :, at]).sum() for at in range(5)]
    assert step_sums(images)[0, 0].tolist() == across


@pytest.mark.parametrize(
    ("cell", "stem", "names"),
    [(8, 2, ["cells", "stem"]), (4, 4, ["cells"]), (4, 1, ["cells"]), (32, 2, ["stem"]), (1, 1, [])],
)
def test_borders_that_pictures_do_not_have_are_left_out(cell: int, stem: int, names: list[str]) -> None:
    assert list(Grid(cell, stem).periods(32)) == names
    assert len(ratios(noise(1), Grid(cell, stem))) == 3 * len(names)
