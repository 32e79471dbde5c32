"""Laws of the rules that choose cells without learning, and of an MQ-VAE that uses one."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evaluation.masks import gradient_magnitude
from models.mqvae import MQVAE
from models.mqvae.choosers import FIXED, LEVELS, WINDOW, cell_entropy, cell_gradient, dithered, fixed_ranking
from models.mqvae.masker import Masker, top_positions
from tests.models.tiny_mqvae import TINY as CONFIG


def pictures(count: int, side: int, seed: int) -> torch.Tensor:
    """[count, 3, side, side] in [-1, 1], float64."""
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed)).double() * 2 - 1


@pytest.mark.parametrize("side", [2, 4, 6, 8, 16])
def test_the_checkerboards_half_is_a_checkerboard_and_its_quarter_every_other_cell(side: int) -> None:
    row, column = np.divmod(np.arange(side * side), side)
    best = dithered(side).argsort(descending=True).numpy()
    half = set(best[: side * side // 2])
    assert half == set(np.flatnonzero((row + column) % 2 == 0))
    if side % 2 == 0:
        assert set(best[: side * side // 4]) == set(np.flatnonzero((row % 2 == 0) & (column % 2 == 0)))


@given(
    st.sampled_from(FIXED), st.integers(1, 3), st.sampled_from([(8, 4), (16, 8), (12, 3)]), st.integers(0, 99)
)
def test_ranks_are_a_permutation_nested_and_of_each_image_alone(
    kind: str, batch: int, sizes: tuple[int, int], seed: int
) -> None:
    image_BCHW = pictures(batch, sizes[0], seed)
    length = sizes[1] ** 2
    ranking_BL = fixed_ranking(kind, image_BCHW, sizes[1])
    expected = (torch.arange(length).double() + 0.5) / length
    torch.testing.assert_close(ranking_BL.sort(dim=-1).values, expected.expand(batch, -1), atol=1e-6, rtol=0)
    for b in range(batch):
        assert torch.equal(fixed_ranking(kind, image_BCHW[b : b + 1], sizes[1])[0], ranking_BL[b])
        chosen = [set(top_positions(ranking_BL[b : b + 1], n)[0].tolist()) for n in range(1, length + 1)]
        assert all(fewer < more for fewer, more in zip(chosen, chosen[1:], strict=False))


def test_the_gradients_ranking_is_the_evaluations_baseline() -> None:
    image_BCHW = pictures(2, 16, 3)
    for image_CHW, cells_L in zip(image_BCHW, cell_gradient(image_BCHW, 8), strict=True):
        as_read = ((image_CHW + 1) / 2 * 255).permute(1, 2, 0).numpy()
        np.testing.assert_allclose(cells_L.numpy(), gradient_magnitude(as_read, (8, 8)), rtol=1e-9)


@pytest.mark.parametrize("side", [2, 4, 8])
def test_entropy_is_that_of_the_histogram_of_the_window(side: int) -> None:
    image_BCHW = pictures(1, 16, side)
    cell = 16 // side
    border = max(0, math.ceil((WINDOW - cell) / 2))
    luma = ((image_BCHW[0] + 1) / 2 * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(0).numpy()
    for place, found in enumerate(cell_entropy(image_BCHW, side)[0].tolist()):
        top, left = (place // side) * cell, (place % side) * cell
        window = luma[
            max(0, top - border) : top + cell + border, max(0, left - border) : left + cell + border
        ]
        counts = np.bincount((window.flatten() * LEVELS).astype(int), minlength=LEVELS)
        share = counts[counts > 0] / counts.sum()
        assert found == pytest.approx(-(share * np.log(share)).sum(), abs=1e-9)


@pytest.mark.parametrize("kind", FIXED)
def test_a_plain_picture_is_chosen_from_evenly(kind: str) -> None:
    kept = top_positions(fixed_ranking(kind, torch.zeros(1, 3, 16, 16), 8), 32)[0]
    assert torch.equal(kept, top_positions(dithered(8)[None], 32)[0])


@pytest.mark.parametrize("kind", FIXED)
def test_an_mqvae_keeps_the_rules_cells_and_has_no_scorer(kind: str) -> None:
    torch.manual_seed(0)
    model = MQVAE(dataclasses.replace(CONFIG, mask=kind)).eval()
    assert not any("scorer" in name for name, _ in model.named_parameters())
    image_BCHW = pictures(2, CONFIG.image_size, 1).float()
    tokens = model.tokenize(image_BCHW)
    ranking_BL = fixed_ranking(kind, image_BCHW, CONFIG.grid)
    assert torch.equal(tokens.positions_BN, top_positions(ranking_BL, CONFIG.num_kept))
    output = model(image_BCHW)
    assert torch.equal(output.scores_BL, ranking_BL) and torch.equal(output.codes_BN, tokens.codes_BN)
    assert output.kept_BL.sum(-1).tolist() == [CONFIG.num_kept] * 2


def test_a_rule_needs_its_ranks() -> None:
    with pytest.raises(ValueError, match=r"mask: entropy ranks cells by the caller's numbers"):
        Masker(4, 2, "entropy", 4)(torch.zeros(1, 4, 4))
