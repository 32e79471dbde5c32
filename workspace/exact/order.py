"""The order of training data as a pure function of (seed, step).

Shards are permuted each epoch and taken in groups, and the samples of a group are permuted, which keeps reads by offset local.
The step is the whole state of the data: resuming, also with another number of workers, needs nothing else.

A set of at most 2²⁰ samples is permuted in memory. The permutations of a larger one are computed where they are needed
(`workspace.exact.permutation`): 16 bytes per shard and epoch, nothing per sample (decision 0047).
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from workspace.exact.permutation import KeyedPermutation
from workspace.exact.seeds import sample_seed

MOST_IN_MEMORY = 1 << 20
"""Samples of a set that is permuted in memory; part of the order's definition: another number is another order."""
KEPT_EPOCHS, KEPT_GROUPS = 2, 8

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@lru_cache(maxsize=4)
def epoch_order(seed: int, epoch: int, shard_sizes: tuple[int, ...], group: int) -> NDArray[np.int64]:
    """The order of one epoch of a set of at most 2²⁰ samples: each index 0 … sum(shard_sizes) - 1 once.

    Args:
        seed: seed of the order.
        epoch: 0, 1, …
        shard_sizes: number of samples in each shard, in order.
        group: number of shards whose samples are mixed.
    """
    generator = np.random.Generator(np.random.PCG64(sample_seed(seed, epoch, 0, "order")))
    starts = np.concatenate([[0], np.cumsum(shard_sizes)])
    shards = generator.permutation(len(shard_sizes))
    parts = []
    for first in range(0, len(shards), group):
        members = np.concatenate([np.arange(starts[s], starts[s + 1]) for s in shards[first : first + group]])
        parts.append(generator.permutation(members))
    return np.concatenate(parts).astype(np.int64)


@dataclass(frozen=True)
class _Epoch:
    """An epoch of a large set.

    Attributes:
        shards: int64 [S], the shards in the order of this epoch.
        ends: int64 [S + 1], places before each of them; the last is their sum.
    """

    shards: NDArray[np.int64]
    ends: NDArray[np.int64]


@dataclass
class DataOrder:
    """The order of a set of shards.

    Attributes:
        seed: of the order.
        shard_sizes: samples in each shard, in order.
        group: shards whose members are mixed.
        most_in_memory: samples up to which the order is permuted in memory.
    """

    seed: int
    shard_sizes: Sequence[int]
    group: int
    most_in_memory: int = MOST_IN_MEMORY
    _arrays: dict[int, NDArray[np.int64]] = field(default_factory=dict, repr=False)
    _epochs: dict[int, _Epoch] = field(default_factory=dict, repr=False)
    _groups: dict[tuple[int, int], KeyedPermutation] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.shard_sizes = tuple(self.shard_sizes)
        self.sizes = np.asarray(self.shard_sizes, dtype=np.int64)
        self.starts = np.concatenate([[0], np.cumsum(self.sizes)])
        self.total = int(self.starts[-1])
        if self.total < 1:
            raise ValueError("the shards hold no samples; expected at least one")

    def batch(self, step: int, size: int) -> list[tuple[int, int]]:
        """The (epoch, index) of each sample of a step's global batch of `size`; batches run on across the ends of epochs."""
        return self.run(step * size, size)

    def run(self, first: int, size: int) -> list[tuple[int, int]]:
        """The (epoch, index) of `size` samples from the `first` of the training on."""
        chosen = list[tuple[int, int]]()
        while len(chosen) < size:
            epoch, place = divmod(first + len(chosen), self.total)
            count = min(size - len(chosen), self.total - place)
            chosen += ((epoch, index) for index in self.at(epoch, place, count).tolist())
        return chosen

    def at(self, epoch: int, place: int, count: int) -> NDArray[np.int64]:
        """The indices at `count` places of an epoch from `place` on, int64 [count]."""
        if self.total <= self.most_in_memory:
            assert isinstance(self.shard_sizes, tuple)
            if epoch not in self._arrays:  # kept here too: a mixture has more orders than `epoch_order` keeps
                made = epoch_order(self.seed, epoch, self.shard_sizes, self.group)
                _remember(self._arrays, epoch, made, KEPT_EPOCHS)
            return self._arrays[epoch][place : place + count]
        return np.concatenate(list(self._parts(epoch, place, place + count)))

    def group_at(self, epoch: int, place: int) -> list[int]:
        """The shards from which the sample at a place of an epoch of a large set comes, with those mixed with it."""
        order = self._epoch(epoch)
        first = self._group_of(order, place) * self.group
        return order.shards[first : first + self.group].tolist()

    def _group_of(self, order: _Epoch, place: int) -> int:
        """Which group a place is in; shards without samples have none."""
        return (int(np.searchsorted(order.ends, place, "right")) - 1) // self.group

    def _parts(self, epoch: int, place: int, stop: int) -> Iterator[NDArray[np.int64]]:
        """The indices of places … stop - 1, one array per group that they are in."""
        order = self._epoch(epoch)
        while place < stop:
            number = self._group_of(order, place)
            first, last = number * self.group, min((number + 1) * self.group, len(order.shards))
            begin, end = int(order.ends[first]), int(order.ends[last])
            until = min(stop, end)
            mixed = self._mixed(epoch, number, end - begin)(np.arange(place - begin, until - begin)) + begin
            slots = np.searchsorted(order.ends[first : last + 1], mixed, "right") - 1 + first
            yield self.starts[order.shards[slots]] + mixed - order.ends[slots]
            place = until

    def _epoch(self, epoch: int) -> _Epoch:
        if epoch not in self._epochs:
            permuted = KeyedPermutation.of(len(self.sizes), self.seed, epoch, "shards")
            shards = permuted(np.arange(len(self.sizes)))
            _remember(
                self._epochs, epoch, _Epoch(shards, np.r_[0, np.cumsum(self.sizes[shards])]), KEPT_EPOCHS
            )
        return self._epochs[epoch]

    def _mixed(self, epoch: int, number: int, length: int) -> KeyedPermutation:
        key = (epoch, number)
        if key not in self._groups:
            made = KeyedPermutation.of(length, self.seed, epoch, number, "members")
            _remember(self._groups, key, made, KEPT_GROUPS)
        return self._groups[key]


def _remember(kept: dict[K, V], key: K, value: V, most: int) -> None:
    """Keep a value, and of all the `most` that came last."""
    kept[key] = value
    while len(kept) > most:
        del kept[next(iter(kept))]


def bucketed(
    order: DataOrder,
    window: int,
    batch: int,
    lengths_of: Callable[[NDArray[np.int64]], NDArray[np.integer]],
    size: int,
) -> list[list[tuple[int, int]]]:
    """The (epoch, index) of each sample of `size` consecutive steps, in batches of like lengths.

    These are the samples of `order.batch` for steps window · size … (window + 1) · size - 1, as often as there: sorted by
    length, cut into batches, and the batches permuted.

    Args:
        order: of the samples.
        window: 0, 1, …
        batch: samples in a batch.
        lengths_of: the lengths of samples, [B] → [B].
        size: batches in a window.
    """
    drawn = order.batch(window, size * batch)
    lengths = lengths_of(np.array([index for _, index in drawn], np.int64))
    ascending = np.argsort(lengths, kind="stable")
    batches = [
        [drawn[place] for place in ascending[first : first + batch]] for first in range(0, len(drawn), batch)
    ]
    generator = np.random.Generator(np.random.PCG64(sample_seed(order.seed, window, 0, "buckets")))
    return [batches[number] for number in generator.permutation(size)]
