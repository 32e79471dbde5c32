"""Laws of the order of large sets: a permutation that is computed, a pure function of (seed, step), local, and well mixed."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workspace.exact.order import MOST_IN_MEMORY, DataOrder, epoch_order
from workspace.exact.permutation import KeyedPermutation

SIZES = st.lists(st.integers(0, 30), min_size=1, max_size=12).filter(lambda sizes: sum(sizes) > 0)


def computed(seed: int, sizes: list[int], group: int) -> DataOrder:
    """The order of large sets on a small one."""
    return DataOrder(seed, sizes, group, most_in_memory=0)


@given(st.integers(1, 3000), st.integers(0, 99))
def test_every_number_is_given_once(length: int, seed: int) -> None:
    found = KeyedPermutation.of(length, seed, "test")(np.arange(length))
    assert sorted(found.tolist()) == list(range(length))


@given(st.integers(1, 1 << 40), st.integers(0, 99), st.lists(st.integers(0, (1 << 40) - 1), max_size=50))
def test_of_any_length_no_two_places_hold_the_same(length: int, seed: int, places: list[int]) -> None:
    asked = np.unique(np.array(places, dtype=np.int64) % length)
    found = KeyedPermutation.of(length, seed)(asked)
    assert len(set(found.tolist())) == len(asked)
    assert not asked.size or 0 <= found.min() <= found.max() < length
    one_by_one = [int(KeyedPermutation.of(length, seed)(asked[i : i + 1])[0]) for i in range(len(asked))]
    assert one_by_one == found.tolist()


def test_all_orders_of_four_are_drawn_about_equally_often() -> None:
    """χ² of 24 orders over 4,800 keys: 23 degrees of freedom, 99.9 % of fair draws lie below 49.7."""
    counts = Counter(tuple(KeyedPermutation.of(4, seed)(np.arange(4)).tolist()) for seed in range(4800))
    assert len(counts) == 24
    assert sum((count - 200) ** 2 / 200 for count in counts.values()) < 49.7


def test_where_a_number_goes_is_uniform_and_does_not_depend_on_its_neighbour() -> None:
    """Neighbours' places do not correlate; the mean distance from a number to its place is a third of n; no cell is fuller."""
    found = KeyedPermutation.of(100_003, 5)(np.arange(100_003))
    assert abs(np.corrcoef(found[:-1], found[1:])[0, 1]) < 0.015
    assert np.abs(found - np.arange(len(found))).mean() == pytest.approx(len(found) / 3, rel=0.015)
    counts = np.histogram2d(np.arange(len(found)), found, bins=10)[0]
    assert ((counts - 1000.03) ** 2 / 1000.03).sum() < 150  # 81 degrees of freedom


@given(st.integers(0, 99), st.integers(0, 9), SIZES, st.integers(1, 7))
def test_each_epoch_has_every_index_once(seed: int, epoch: int, sizes: list[int], group: int) -> None:
    order = computed(seed, sizes, group)
    found = order.at(epoch, 0, sum(sizes))
    assert sorted(found.tolist()) == list(range(sum(sizes)))


@given(st.integers(0, 99), SIZES, st.integers(1, 7), st.integers(1, 12), st.integers(0, 8))
def test_a_batch_is_the_same_whoever_asks_and_whatever_was_asked_before(
    seed: int, sizes: list[int], group: int, batch: int, step: int
) -> None:
    used = computed(seed, sizes, group)
    before = [used.batch(number, batch) for number in range(step + 1)]
    assert computed(seed, sizes, group).batch(step, batch) == before[step] == used.batch(step, batch)
    run = [pair for pairs in before for pair in pairs]
    assert run == [pair for n in range(len(run)) for pair in computed(seed, sizes, group).batch(n, 1)]
    assert set(Counter(run).values()) == {1}


@given(SIZES, st.integers(1, 5))
def test_a_group_is_some_shards_whole(sizes: list[int], group: int) -> None:
    order, total = computed(3, sizes, group), sum(sizes)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    place, seen = 0, list[int]()
    while place < total:
        shards = order.group_at(0, place)
        count = sum(sizes[number] for number in shards)
        expected = itertools.chain.from_iterable(range(starts[n], starts[n + 1]) for n in shards)
        assert sorted(order.at(0, place, count).tolist()) == sorted(expected)
        seen, place = seen + shards, place + count
    assert len(seen) == len(set(seen)) and {n for n, size in enumerate(sizes) if size} <= set(seen)


def test_up_to_2_to_the_20_samples_the_order_is_the_one_that_it_always_was() -> None:
    sizes = (1000,) * 5
    assert DataOrder(4, sizes, 2).at(1, 0, 5000).tolist() == epoch_order(4, 1, sizes, 2).tolist()
    assert computed(4, list(sizes), 2).at(1, 0, 5000).tolist() != epoch_order(4, 1, sizes, 2).tolist()
    assert MOST_IN_MEMORY == 1 << 20
    at_most, above = DataOrder(0, (1 << 20,), 1), DataOrder(0, ((1 << 20) + 1,), 1)
    assert at_most.at(0, 0, 3).tolist() == epoch_order(0, 0, (1 << 20,), 1)[:3].tolist()
    assert above.at(0, 0, 3).tolist() == computed(0, [(1 << 20) + 1], 1).at(0, 0, 3).tolist()
    epoch_order.cache_clear()


def test_the_order_of_large_sets_does_not_change_between_versions() -> None:
    """A run that is resumed asks for the order again: these numbers may never change."""
    assert computed(0, [4, 4, 4], 2).batch(0, 6) == GOLDEN_SMALL
    assert [index for _, index in DataOrder(7, (5000,) * 80_000, 16).batch(123_456_789, 4)] == GOLDEN_LARGE


GOLDEN_SMALL = [(0, 4), (0, 5), (0, 2), (0, 6), (0, 7), (0, 0)]
GOLDEN_LARGE = [205985271, 154776521, 259172549, 286780677]
