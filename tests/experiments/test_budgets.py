"""Laws of what a Stackformer spends on codes, positions and stops."""

import numpy as np
import pytest
import torch

from experiments.budgets.nats import Batch, _of_batch, held_out, length_alone
from models.stackformer import Stackformer
from tests.training import test_buckets as ragged
from training.stackformer import batches


def test_codes_positions_and_stops_are_all_of_an_images_nats() -> None:
    torch.manual_seed(0)
    model, split = Stackformer(ragged.CONFIG).eval(), ragged.split()
    torch.nn.init.normal_(model.stop_head.weight)
    (batch,) = held_out(split, ragged.CONFIG)
    with torch.no_grad():
        codes, positions, going_on, ending = _of_batch(model, batch)
        whole = batches.held_out(split, ragged.CONFIG, len(split))
        output = model(whole.codes_BN, whole.positions_BN, whole.condition_BC)
        nats = -model.loss(output, whole.codes_BN, whole.positions_BN).log_likelihood_B.numpy()
    np.testing.assert_allclose(codes + positions + going_on + ending, nats, rtol=1e-5)
    assert (
        min(part.min() for part in (codes, positions, going_on, ending)) >= 0
        and going_on.sum() > 0 < ending.sum()
    )


def test_held_out_images_have_their_codes_in_the_first_slots() -> None:
    split = ragged.split()
    (batch,) = held_out(split, ragged.CONFIG)
    assert isinstance(batch, Batch)
    held_BN = batch.positions_BN < ragged.MOST
    np.testing.assert_array_equal(held_BN.sum(1).numpy(), split.lengths)
    np.testing.assert_array_equal(batch.codes_BN[held_BN].numpy(), split.codes)


def test_a_length_alone_costs_its_share_in_the_class() -> None:
    split = ragged.split(600)
    assert split.cls is not None
    alone = length_alone(split, split)
    for cls, length in {(int(split.cls[row]), int(split.lengths[row])) for row in range(8)}:
        rows = (split.cls == cls) & (split.lengths == length)
        of_class, kinds = (split.cls == cls).sum(), len(np.unique(split.lengths))
        assert alone[rows] == pytest.approx(-np.log((rows.sum() + 0.5) / (of_class + kinds / 2)))
