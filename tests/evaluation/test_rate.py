"""Laws of bits per image."""

import math
from itertools import combinations
from typing import get_args

import numpy as np
import pytest
import torch

from evaluation.codes.rate import NATS, bits_per_image, raw_code_bits, raw_position_bits, stored_bits
from evaluation.codes.tokens import token_scores
from models.mqvae.choosers import FIXED, fixed_ranking
from models.mqvae.masker import Masker, MaskKind, random_ranking
from shards.token_making.writing import pack_positions
from shards.tokens import TokenFacts


def test_raw_bits_count_the_codes_and_the_sets_of_positions() -> None:
    assert 2 ** raw_code_bits(3, 8) == pytest.approx(8**3)
    assert 2 ** raw_position_bits(3, 7) == pytest.approx(len(list(combinations(range(7), 3))))
    assert raw_position_bits(7, 7) == 0


def test_positions_that_are_the_same_in_every_image_cost_no_bits() -> None:
    """Those of a checkerboard follow from N; a grid of which all cells are kept has only one set."""
    nats = dict.fromkeys(NATS, 1.0)
    for lengths in ([3], [1, 3, 7]):
        found = bits_per_image(nats, lengths, 8, 7, same_places=True)
        assert found["position_bits_per_image_raw"].value == 0 == raw_position_bits(3, 7, same_places=True)
        assert found["bits_per_image_raw"].value == found["code_bits_per_image_raw"].value
        assert "same cells in every image" in found["position_bits_per_image_raw"].estimator


@pytest.mark.parametrize("mask", get_args(MaskKind))
def test_a_token_set_knows_whether_its_places_are_the_same_in_every_image(mask: MaskKind) -> None:
    """By its mask, as the masker ranks two unlike pictures with unlike random numbers."""
    image_BCHW = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    ranking_BL = fixed_ranking(mask, image_BCHW, 4) if mask in FIXED else random_ranking([1, 2], 16)
    torch.manual_seed(0)
    kept_BL = Masker(6, 8, mask, 4)(torch.randn(2, 16, 6), ranking_BL).kept_BL
    facts = TokenFacts((4, 4), 8, 8 if mask != "none" else 16, None, None, None, {"train": 1}, mask, "f")
    assert facts.same_places == bool((kept_BL[0] == kept_BL[1]).all())
    record = {"split": "train", "images": 1, "bytes": 9, "seconds": 1.0, "code_counts": [1] * 8}
    places = token_scores(facts, [record], 1)["position_bits_per_image_raw"].value
    assert places == (0 if facts.same_places else pytest.approx(math.log2(12870)))


def test_raw_position_bits_reach_the_papers_size() -> None:
    assert raw_position_bits(768, 1024) == pytest.approx(825.6, abs=0.1)


def test_stored_bits_are_those_of_a_token_block() -> None:
    positions = np.arange(6)[None]
    codes = np.zeros((1, 6), np.uint16)
    assert stored_bits(6, 10) == 8 * (codes.nbytes + pack_positions(positions, 10).nbytes)


def test_the_likelihood_of_a_uniform_model_is_the_raw_size() -> None:
    nats = dict(zip(NATS, (6 * math.log(16), math.log(210), 6 * math.log(16) + math.log(210)), strict=True))
    found = bits_per_image(nats, [6], 16, 10)
    for name in ("code_bits_per_image", "position_bits_per_image", "bits_per_image"):
        assert found[name].value == pytest.approx(found[f"{name}_raw"].value)
