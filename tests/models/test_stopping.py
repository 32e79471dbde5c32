"""Laws of sequences that end by themselves: exact probabilities, samples that follow them, rows that leave the batch."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import permutations, product

import pytest
import torch
from torch import Tensor

from models.sampling import Sampler, SamplingSettings, StoppingSampler, Truncation, sample
from models.sampling.stopping import bounds_of
from models.stackformer import Stackformer
from tests.models.conftest import small_config

PLAIN = Truncation(temperature=1.0, top_k=0, top_p=1.0)
UNGUIDED = SamplingSettings(1.0, PLAIN, PLAIN)
Build = Callable[..., Stackformer]


def built(seed: int = 0, fewest: int = 1, most: int = 3, cells: int = 4, **changes: object) -> Stackformer:
    """A float64 model of sequences of different lengths, whose every part matters."""
    torch.manual_seed(seed)
    config = small_config(num_codes=2, num_positions=cells, num_kept=most, **changes)
    model = Stackformer(dataclasses.replace(config, fewest_kept=fewest)).double().eval()
    for weight in model.parameters():
        weight.data.add_(0.3 * torch.randn_like(weight))
    return model


def sequences(model: Stackformer) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """All codes and positions that the model may draw."""
    config = model.config
    ascending = config.network.position_support == "ascending"
    for length in range(config.fewest, config.num_kept + 1):
        for places in permutations(range(config.num_positions), length):
            if not ascending or list(places) == sorted(places):
                for codes in product(range(config.num_codes), repeat=length):
                    yield codes, places


def padded(
    model: Stackformer, rows: list[tuple[tuple[int, ...], tuple[int, ...]]], slots: int
) -> tuple[Tensor, Tensor]:
    """Codes and positions [B, slots]."""
    cells = model.config.num_positions
    codes = torch.tensor([[*codes, *[0] * (slots - len(codes))] for codes, _ in rows])
    places = torch.tensor([[*places, *[cells] * (slots - len(places))] for _, places in rows])
    return codes, places


def log_likelihoods(
    model: Stackformer, rows: list[tuple[tuple[int, ...], tuple[int, ...]]], slots: int
) -> Tensor:
    """log p of each sequence under class 1."""
    codes_BN, positions_BN = padded(model, rows, slots)
    with torch.no_grad():
        output = model(codes_BN, positions_BN, torch.ones(len(rows), 1, dtype=torch.int64))
        return model.loss(output, codes_BN, positions_BN).log_likelihood_B


@pytest.mark.parametrize("block", ["gpt", "modern"])
@pytest.mark.parametrize("support", ["ascending", "unused"])
@pytest.mark.parametrize(("fewest", "most", "cells"), [(1, 3, 4), (2, 3, 3), (1, 3, 3), (2, 2, 4)])
def test_probabilities_of_all_lengths_codes_and_positions_sum_to_one(
    block: str, support: str, fewest: int, most: int, cells: int
) -> None:
    model = built(3, fewest, most, cells, block=block, position_support=support)
    rows = list(sequences(model))
    lengths = {len(codes) for codes, _ in rows}
    assert lengths == set(range(fewest, most + 1))
    log_p = log_likelihoods(model, rows, most)
    assert log_p.dtype == torch.float64 and torch.isfinite(log_p).all()
    assert float(log_p.exp().sum()) == pytest.approx(1.0, abs=1e-9)


def test_a_likelihood_does_not_depend_on_what_the_batch_is_padded_to() -> None:
    model = built(1, 1, 3, 4)
    rows = [row for row in sequences(model) if len(row[0]) == 1]
    torch.testing.assert_close(log_likelihoods(model, rows, 2), log_likelihoods(model, rows, 3))


def test_gradients_are_finite_where_slots_are_empty() -> None:
    model = built(1, 1, 3, 3)
    codes_BN, positions_BN = padded(model, [((1,), (2,)), ((0, 1, 1), (0, 1, 2)), ((0,), (0,))], 3)
    output = model(codes_BN, positions_BN, torch.zeros(3, 1, dtype=torch.int64))
    model.loss(output, codes_BN, positions_BN).total.backward()
    assert all(weight.grad is not None and torch.isfinite(weight.grad).all() for weight in model.parameters())


def test_a_loss_is_the_mean_of_its_images_losses() -> None:
    model = built(1, 1, 3, 4)
    rows = [((1,), (2,)), ((0, 1, 1), (0, 1, 3)), ((0, 0), (0, 2))]
    condition = torch.ones(1, 1, dtype=torch.int64)

    def loss(some: list[tuple[tuple[int, ...], tuple[int, ...]]]) -> Tensor:
        codes_BN, positions_BN = padded(model, some, 3)
        output = model(codes_BN, positions_BN, condition.expand(len(some), 1))
        return model.loss(output, codes_BN, positions_BN).total

    torch.testing.assert_close(loss(rows), torch.stack([loss([row]) for row in rows]).mean())


@pytest.mark.parametrize("support", ["ascending", "unused"])
def test_samples_come_as_often_as_their_probabilities_say(support: str) -> None:
    model = built(2, 1, 3, 3, position_support=support)
    rows, count = list(sequences(model)), 4000
    expected = log_likelihoods(model, rows, 3).exp()
    drawn = StoppingSampler(model, count, UNGUIDED)(torch.ones(count, 1, dtype=torch.int64), range(count))
    found = Counter(unpadded(model, drawn.codes_BN, drawn.positions_BN))
    assert set(found) <= set(rows)
    for row, p in zip(rows, expected.tolist(), strict=True):
        assert abs(found[row] / count - p) < 5 * (p * (1 - p) / count) ** 0.5 + 1e-3


def unpadded(
    model: Stackformer, codes_BN: Tensor, positions_BN: Tensor
) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The sequences without their empty slots, which are all at the end."""
    found = []
    for codes, places in zip(codes_BN.tolist(), positions_BN.tolist(), strict=True):
        count = sum(place < model.config.num_positions for place in places)
        assert all(place == model.config.num_positions for place in places[count:])
        found.append((tuple(codes[:count]), tuple(places[:count])))
    return found


@pytest.mark.parametrize("block", ["gpt", "modern"])
@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_an_image_is_the_same_in_any_batch_and_a_sampler_serves_many(block: str, guidance: float) -> None:
    model = built(5, 1, 9, 12, block=block)
    settings = SamplingSettings(guidance, Truncation(1.0, 0, 0.9), PLAIN)
    condition = torch.arange(8)[:, None] % 3
    whole = StoppingSampler(model, 8, settings)
    together = unpadded(model, *vars(whole(condition, range(8))).values())
    assert len({len(codes) for codes, _ in together}) > 1
    pairs = StoppingSampler(model, 2, settings)
    for first in range(0, 8, 2):
        rows = slice(first, first + 2)
        drawn = pairs(condition[rows], range(8)[rows])
        assert unpadded(model, drawn.codes_BN, drawn.positions_BN) == together[rows]
    again = sample(model, condition, range(8), settings)
    assert unpadded(model, again.codes_BN, again.positions_BN) == together
    assert unpadded(model, *vars(whole(condition, range(8))).values()) == together


@pytest.mark.parametrize(("codes", "seen"), [((3, 5), {3, 4, 5}), ((4, 4), {4}), ((1, 100), None)])
def test_the_numbers_that_are_asked_for_bound_every_image(
    codes: tuple[int, int], seen: set[int] | None
) -> None:
    model = built(5, 2, 8, 9)
    drawn = StoppingSampler(model, 60, UNGUIDED, codes=codes)(
        torch.zeros(60, 1, dtype=torch.int64), range(60)
    )
    lengths = {len(row) for row, _ in unpadded(model, drawn.codes_BN, drawn.positions_BN)}
    assert lengths <= (seen or set(range(2, 9)))


def test_what_no_sampler_can_do_is_said_in_a_line() -> None:
    model = built()
    with pytest.raises(ValueError, match="codes 4 … 9 are asked for, and the model draws 1 … 3"):
        bounds_of(1, 3, (4, 9))
    with pytest.raises(ValueError, match="codes 3 … 2 are asked for"):
        bounds_of(1, 3, (3, 2))
    with pytest.raises(ValueError, match="sequences of this model end by themselves"):
        Sampler(model, 2, UNGUIDED)
    fixed = Stackformer(small_config()).eval()
    with pytest.raises(ValueError, match="the model draws 4 codes of every image"):
        StoppingSampler(fixed, 2, UNGUIDED)
    with pytest.raises(ValueError, match="fewest_kept is 4, expected 1 … num_kept 3"):
        dataclasses.replace(model.config, fewest_kept=4)
