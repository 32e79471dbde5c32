"""Laws of seeds: any seed in range will do, no two places share one, what is not a seed is refused, old ones stay."""

import argparse
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from workflow.params import load_params
from workspace.errors import UserError
from workspace.exact.seeds import (
    END,
    MICRO_BATCHES,
    STEPS,
    hashed,
    hashed_unit,
    micro_batch_seed,
    require_seed,
    sample_seed,
    seed_argument,
    step_seed,
)

ROOT = Path(__file__).resolve().parents[2]
LONG = 20240613123456
SEEDED = (
    "shapes",
    "shard",
    "reference",
    "mqvae",
    "reconstruct",
    "tokenize",
    "stackformer",
    "sample",
    "evaluate",
)
seeds = st.integers(0, END - 1)
places = st.integers(0, 10**18)


@given(seeds, places, places)
def test_any_seed_step_and_micro_batch_give_a_seed_that_torch_takes(seed: int, step: int, index: int) -> None:
    found = (
        micro_batch_seed(seed, step, index),
        step_seed(seed, step),
        sample_seed(seed, step, index, "mask"),
    )
    for one in found:
        assert require_seed(one) == one
        assert torch.Generator().manual_seed(one).initial_seed() == one
    assert 0 <= hashed_unit(seed, step, index) <= 1


@given(st.integers(0, 9_000_000), st.integers(0, STEPS - 1), st.integers(0, MICRO_BATCHES - 1))
def test_seeds_that_fit_are_those_of_before(seed: int, step: int, index: int) -> None:
    assert micro_batch_seed(seed, step, index) == (seed * 1_000_003 + step) * 1_009 + index
    assert step_seed(seed, step) == seed * 1_000_003 + step


def test_derived_seeds_do_not_change_between_versions() -> None:
    assert sample_seed(0, 0, 0, "flip") == 3827049575584263063
    assert hashed(5, "val", 3) == 15798867363247898494
    assert micro_batch_seed(LONG, 7, 2_000) == hashed(LONG, 7, 2_000) >> 1


def test_no_two_micro_batches_of_any_steps_and_seeds_share_one() -> None:
    numbers = (0, 1, 2, 9_139_000_000, LONG, LONG + 1, END - 1)
    steps = (*range(40), *range(STEPS - 20, STEPS + 20), 2 * STEPS, 10**12)
    indices = (*range(100), *range(MICRO_BATCHES - 20, MICRO_BATCHES + 20), 2 * MICRO_BATCHES, 10**6)
    asked = list(product(numbers, steps, indices))
    assert len({micro_batch_seed(*one) for one in asked}) == len(asked) > 80_000
    pairs = list(product(numbers, steps))
    assert len({step_seed(*one) for one in pairs}) == len(pairs)


NO_SEEDS = [-1, END, 1.0, "7", True, None]


@pytest.mark.parametrize("wrong", NO_SEEDS, ids=repr)
def test_what_is_no_seed_is_refused_with_what_was_expected(wrong: Any) -> None:
    told = r"seed is .*; expected a whole number, 0 ≤ seed < 2⁶³"
    for derive in (
        require_seed,
        lambda seed: hashed(seed, "x"),
        lambda seed: sample_seed(seed, 0, 0, "flip"),
        lambda seed: step_seed(seed, 0),
        lambda seed: micro_batch_seed(seed, 0, 0),
    ):
        with pytest.raises(ValueError, match=told):
            derive(wrong)


def test_the_command_line_takes_a_seed_or_says_what_it_expected() -> None:
    assert seed_argument(str(LONG)) == LONG
    for text in ("-1", "1.5", "seven", str(END)):
        with pytest.raises(argparse.ArgumentTypeError, match="expected a whole number, 0 ≤ seed"):
            seed_argument(text)


def test_each_sections_seed_may_be_long_and_is_refused_where_it_is_none() -> None:
    params = load_params(ROOT / "presets" / "tiny.yaml", [f"{name}.seed={LONG}" for name in SEEDED])
    assert {vars(params)[name].seed for name in SEEDED} == {LONG}
    for name in SEEDED:
        for text, told in (
            ("-1", "is -1: expected greater than or equal to 0"),
            (str(END), f"is {END}: expected less than {END}"),
            ("1.5", r"is 1\.5: expected a valid integer"),
            ("true", "is true: expected a valid integer"),
            ("null", "is null: expected a valid integer"),
        ):
            with pytest.raises(UserError, match=rf"{name}\.seed {told}"):
                load_params(ROOT / "presets" / "tiny.yaml", [f"{name}.seed={text}"])


def test_every_use_of_every_sample_has_its_own_seed() -> None:
    purposes = ("flip", "crop", "caption", "mask")
    uses = [(s, e, i, p) for s in range(3) for e in range(3) for i in range(12) for p in purposes]
    seeds = {sample_seed(*use) for use in uses}
    assert len(seeds) == len(uses)
    assert all(0 <= seed < 2**63 for seed in seeds)
