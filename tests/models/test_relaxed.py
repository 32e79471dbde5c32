"""Laws of the choice that passes a gradient: exactly the N best forward, all scores backward."""

import dataclasses
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from models.mqvae import MQVAE
from models.mqvae.masker import Masker, top_positions
from models.mqvae.relaxed import Relaxed, gumbel_ranking, relaxed_choice
from tests.models.tiny_mqvae import TINY

SEEDS = st.integers(0, 99)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(st.integers(1, 3), st.integers(2, 12), SEEDS)
def test_the_kept_are_above_one_half_and_raising_all_changes_nothing(
    batch: int, length: int, seed: int
) -> None:
    y_BL = drawn(batch, length, seed=seed).requires_grad_()
    kept_B = torch.randint(1, length + 1, (batch,), generator=torch.Generator().manual_seed(seed))
    choice_BL = relaxed_choice(y_BL, kept_B)
    assert torch.equal((choice_BL > 0.5).sum(-1), kept_B)
    (gradient_BL,) = torch.autograd.grad((choice_BL * drawn(batch, length, seed=seed + 1)).sum(), y_BL)
    torch.testing.assert_close(gradient_BL.sum(-1), torch.zeros(batch, dtype=torch.float64))
    for row, count in zip(gradient_BL, kept_B.tolist(), strict=True):
        assert (row != 0).all() if count < length else (row == 0).all()
    alone = torch.cat([relaxed_choice(y_BL[b : b + 1], kept_B[b : b + 1]) for b in range(batch)])
    torch.testing.assert_close(alone, choice_BL)


def test_the_grid_keeps_its_value_and_the_gradient_is_the_change_that_keeping_a_cell_makes() -> None:
    choice_BL = drawn(2, 5).sigmoid().requires_grad_()
    grid_BLD, cells_BLD, mask_code_D, weight_BLD = (
        drawn(2, 5, 3),
        drawn(2, 5, 3, seed=1),
        drawn(3),
        drawn(2, 5, 3),
    )
    passed_BLD = Relaxed(choice_BL, cells_BLD).through(grid_BLD, mask_code_D)
    assert torch.equal(passed_BLD, grid_BLD)
    (gradient_BL,) = torch.autograd.grad((passed_BLD * weight_BLD).sum(), choice_BL)
    torch.testing.assert_close(gradient_BL, (weight_BLD * (cells_BLD - mask_code_D)).sum(-1))


def models() -> tuple[MQVAE, MQVAE]:
    """The paper's and the same with a relaxed choice, equal weights."""
    found = []
    for estimator in ("score", "straight_through"):
        torch.manual_seed(0)
        found.append(MQVAE(dataclasses.replace(TINY, mask_estimator=estimator)).double())
    return found[0], found[1]


def test_an_mqvaes_output_is_the_papers_and_its_scorer_learns_from_dropped_cells_too() -> None:
    image_BCHW = drawn(3, 3, 16, 16).clamp(-1, 1)
    noise_BL = gumbel_ranking([1, 2, 3], TINY.num_positions).double()
    gradients = []
    for model in models():
        output = model(image_BCHW, noise_BL, 1.0, bypass_quantizer=True, with_logits=True)
        assert output.logits_BL is not None
        assert output.kept_BL.sum(-1).tolist() == [TINY.num_kept] * 3
        (gradient_BL,) = torch.autograd.grad(output.reconstruction_BCHW.square().sum(), output.logits_BL)
        gradients.append((output, gradient_BL))
    (paper, of_kept), (relaxed, of_all) = gradients
    assert torch.equal(paper.reconstruction_BCHW, relaxed.reconstruction_BCHW)
    assert torch.equal(of_kept != 0, paper.kept_BL) and (of_all != 0).all()
    order_BN = top_positions(
        paper.logits_BL / paper.logits_BL.std(-1, keepdim=True, correction=0) + noise_BL, TINY.num_kept
    )
    assert torch.equal(paper.positions_BN, order_BN)


def test_frozen_scores_and_a_model_in_use_pass_nothing() -> None:
    _, model = models()
    image_BCHW = drawn(2, 3, 16, 16).clamp(-1, 1)
    output = model(image_BCHW, frozen_scores=True, with_logits=True)
    output.reconstruction_BCHW.sum().backward()
    assert all(weight.grad is None for weight in model.masker.scorer.parameters())
    assert model.eval().masker(drawn(2, TINY.num_positions, TINY.code_dim)).relaxed is None
    assert model(image_BCHW).logits_BL is None, "several workers would wait for its gradient"


def test_gumbel_noise_draws_by_softmax_and_each_row_by_its_seed() -> None:
    logits_L = torch.tensor([1.0, 0.0, -1.0])
    rows = gumbel_ranking(range(4000), 3)
    shares = torch.bincount((logits_L + rows).argmax(-1), minlength=3) / 4000
    torch.testing.assert_close(shares, logits_L.softmax(0), atol=3.5 * math.sqrt(0.25 / 4000), rtol=0)
    assert torch.equal(gumbel_ranking([7], 3)[0], rows[7]) and rows.isfinite().all()


@pytest.mark.parametrize("mask", ["random", "checkerboard"])
def test_what_learns_no_choice_has_no_estimator(mask: Any) -> None:
    with pytest.raises(
        ValueError, match=rf"mask_estimator is straight_through and mask is {mask}, .*expected"
    ):
        dataclasses.replace(TINY, mask=mask, mask_estimator="straight_through")


def test_the_papers_masker_keeps_its_logits_for_whoever_teaches_it() -> None:
    masked = Masker(4, 2, "adaptive", 4)(torch.randn(1, 6, 4))
    assert masked.logits_BL is not None and masked.relaxed is None
    assert torch.equal(masked.logits_BL.sigmoid(), masked.scores_BL)
