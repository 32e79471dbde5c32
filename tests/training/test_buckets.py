"""Laws of batches of images with different numbers of codes, and of training on them."""

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.stackformer import Stackformer
from shards.token_making.writing import pack_flat
from shards.tokens import TokenSplit
from shards.tokens.blocks import offsets_of
from tests.training import test_stackformer_training as tokens
from training.loop.train import train
from training.stackformer.batches import WINDOW, TokenBatches, held_out
from training.stackformer.module import StackformerTrainingModule
from workspace.exact.order import DataOrder, bucketed

MOST = tokens.CLASSES.num_positions
CONFIG = dataclasses.replace(tokens.CLASSES, num_kept=MOST, fewest_kept=1)


def split(count: int = 60) -> TokenSplit:
    """Images with 1 … L codes."""
    generator = np.random.default_rng(0)
    lengths = generator.integers(1, MOST + 1, count)
    places = np.concatenate([np.sort(generator.permutation(MOST)[:number]) for number in lengths])
    return TokenSplit(
        tuple(map(str, range(count))),
        generator.integers(CONFIG.num_codes, size=lengths.sum()).astype(np.uint16),
        pack_flat(places, lengths, MOST),
        (np.arange(count) % CONFIG.condition_vocab).astype(np.uint16),
        None,
        None,
        offsets=offsets_of(lengths),
        shard_sizes=(count,),
    )


@given(
    seed=st.integers(0, 99),
    window=st.integers(0, 5),
    batch=st.integers(1, 7),
    images=st.integers(1, 40),
    data=st.data(),
)
def test_buckets_hold_the_samples_of_their_steps_each_as_often_as_before(
    seed: int, window: int, batch: int, images: int, data: st.DataObject
) -> None:
    lengths = np.array(data.draw(st.lists(st.integers(1, 9), min_size=images, max_size=images)))
    order = DataOrder(seed, [images], 1)
    found = bucketed(order, window, batch, lambda rows: lengths[rows], 4)
    assert [len(one) for one in found] == [batch] * 4
    steps = range(4 * window, 4 * window + 4)
    plain = [sample for step in steps for sample in DataOrder(seed, [images], 1).batch(step, batch)]
    assert Counter(sample for one in found for sample in one) == Counter(plain)
    spans = sorted((lengths[[i for _, i in one]].min(), lengths[[i for _, i in one]].max()) for one in found)
    assert all(left[1] <= right[0] or left == right for left, right in zip(spans, spans[1:], strict=False))


def test_an_epoch_of_whole_windows_has_each_image_once() -> None:
    images = WINDOW * 4
    found = bucketed(DataOrder(3, [images], 1), 0, 4, lambda rows: rows, WINDOW)
    assert sorted(index for one in found for _, index in one) == list(range(images))


def test_the_batch_of_a_step_depends_on_the_step_alone() -> None:
    settings = tokens.TRAINING
    whole = TokenBatches(split(), CONFIG, settings, tokens.OneOf())
    there = [whole(step) for step in range(WINDOW + 2)]
    for step in (WINDOW + 1, 3, 0, WINDOW):
        fresh = TokenBatches(split(), CONFIG, settings, tokens.OneOf())(step)
        for one, other in zip(fresh, there[step], strict=True):
            assert torch.equal(one.codes_BN, other.codes_BN)
            assert torch.equal(one.positions_BN, other.positions_BN)


def test_a_batch_holds_each_images_codes_and_a_slot_for_its_stop() -> None:
    data = split()
    free = dataclasses.replace(CONFIG, condition="none", condition_vocab=1)
    assert held_out(data, free, 20).condition_BC.shape == (20, 1)
    batch = held_out(data, CONFIG, 20)
    for row in range(20):
        count = int(data.lengths[row])
        assert batch.codes_BN[row, :count].tolist() == data.codes_of(row).tolist()
        assert (batch.positions_BN[row, count:] == MOST).all() and (
            batch.positions_BN[row, :count] < MOST
        ).all()


@pytest.mark.parametrize("sizes", [(4, 16)])
def test_steps_do_not_depend_on_the_micro_batch_and_learn(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    found = []
    for size in sizes:
        plan = tokens.TRAINING.replaced(precision="float64", micro_batch=size)
        torch.manual_seed(0)
        learner = StackformerTrainingModule(
            Stackformer(CONFIG), plan, held_out(split(), CONFIG, 30), torch.device("cpu")
        )
        before = learner.validate(0)["nats_per_image"]
        batches = TokenBatches(split(), CONFIG, plan, tokens.OneOf())
        train(learner, batches, plan, tokens.OneOf(), tokens.folder(tmp_path / str(size)))
        assert learner.validate(1)["nats_per_image"] < before
        found.append(dict(learner.ema.model.state_dict()))
    torch.testing.assert_close(found[1], found[0], rtol=1e-8, atol=1e-10)
