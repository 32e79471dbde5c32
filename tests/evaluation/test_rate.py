"""Laws of bits per image."""

import math
from itertools import combinations

import numpy as np
import pytest

from evaluation.codes.rate import NATS, bits_per_image, raw_code_bits, raw_position_bits, stored_bits
from shards.token_making.writing import pack_positions


def test_raw_bits_count_the_codes_and_the_sets_of_positions() -> None:
    assert 2 ** raw_code_bits(3, 8) == pytest.approx(8**3)
    assert 2 ** raw_position_bits(3, 7) == pytest.approx(len(list(combinations(range(7), 3))))
    assert raw_position_bits(7, 7) == 0


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
