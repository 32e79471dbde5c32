"""Laws of the oracle: its sets stay sets, and no swap makes an image worse."""

import dataclasses

import pytest
import torch

from experiments.oracle import Neutral, compared, decibels, searched, swapped
from models.mqvae import MQVAE
from models.mqvae.masker import random_ranking, top_positions
from tests.models.tiny_mqvae import TINY


@pytest.fixture(scope="module")
def neutral() -> Neutral:
    torch.manual_seed(0)
    model = MQVAE(dataclasses.replace(TINY, mask="random", mask_ratio=0.75)).eval()
    return Neutral(model, torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1)


def test_a_swap_moves_one_kept_cell_to_a_free_one(neutral: Neutral) -> None:
    positions_BN = top_positions(random_ranking([1, 2, 3], 16), 4)
    other_BN = swapped(positions_BN, 16, torch.Generator().manual_seed(0))
    for before, after in zip(positions_BN.tolist(), other_BN.tolist(), strict=True):
        assert len(set(after)) == 4 and len(set(before) & set(after)) == 3


def test_the_search_lowers_every_images_error_or_leaves_it(neutral: Neutral) -> None:
    start_BN = top_positions(random_ranking([1, 2, 3], 16), 4)
    found_BN = searched(neutral, start_BN, 30, 0)
    assert (neutral.errors(found_BN) <= neutral.errors(start_BN) + 1e-9).all()
    assert decibels(neutral.errors(found_BN)) > decibels(neutral.errors(start_BN))
    assert torch.equal(found_BN, searched(neutral, start_BN, 30, 0)), "a search is repeatable"


def test_errors_are_those_of_the_models_own_reconstruction_and_no_chooser_beats_the_oracle_it_started(
    neutral: Neutral,
) -> None:
    ranking_BL = random_ranking([4, 5, 6], 16)
    tokens = neutral.model.tokenize(neutral.image_BCHW, ranking_BL)
    made = neutral.model.decode_tokens(tokens.codes_BN, tokens.positions_BN).clamp(-1, 1)
    expected_B = ((made - neutral.image_BCHW) / 2).square().mean(dim=(1, 2, 3))
    torch.testing.assert_close(neutral.errors(tokens.positions_BN), expected_B)
    torch.manual_seed(1)
    learned = MQVAE(dataclasses.replace(TINY, mask_ratio=0.75)).eval()
    found = compared(neutral, learned, 0, 20)
    assert found["oracle"] >= found["checkerboard"]
    assert set(found) == {"checkerboard", "gradient", "entropy", "random", "the paper's scorer", "oracle"}
