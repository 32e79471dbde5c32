"""The order of training data as a pure function of (seed, step).

Shards are permuted each epoch and taken in groups, and the samples of a group are permuted, which keeps reads by offset local.
The step is the whole state of the data: resuming, also with another number of workers, needs nothing else.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from workspace.exact.seeds import sample_seed


@lru_cache(maxsize=4)
def epoch_order(seed: int, epoch: int, shard_sizes: tuple[int, ...], group: int) -> NDArray[np.int64]:
    """The order of one epoch: each index 0 … sum(shard_sizes) - 1 once.

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


def batch_indices(
    seed: int, step: int, batch: int, shard_sizes: Sequence[int], group: int
) -> list[tuple[int, int]]:
    """The (epoch, index) of each sample in a step's global batch; batches continue across epoch boundaries.

    Raises:
        ValueError: there are no samples.
    """
    sizes = tuple(shard_sizes)
    total = sum(sizes)
    if total < 1:
        raise ValueError("the shards hold no samples; expected at least one")
    chosen = []
    for number in range(step * batch, (step + 1) * batch):
        epoch, place = divmod(number, total)
        chosen.append((epoch, int(epoch_order(seed, epoch, sizes, group)[place])))
    return chosen


def bucketed(
    seed: int, window: int, batch: int, lengths: NDArray[np.integer], size: int
) -> list[list[tuple[int, int]]]:
    """The (epoch, index) of each sample of `size` consecutive steps, in batches of like lengths.

    These are the samples of `batch_indices` for steps window · size … (window + 1) · size - 1, each as often as there: sorted by
    length, cut into batches, and the batches permuted.

    Args:
        seed: of the order.
        window: 0, 1, …
        batch: samples in a batch.
        lengths: of each sample, [samples].
        size: batches in a window.
    """
    drawn = batch_indices(seed, window, size * batch, [len(lengths)], 1)
    order = np.argsort(lengths[[index for _, index in drawn]], kind="stable")
    batches = [
        [drawn[place] for place in order[first : first + batch]] for first in range(0, len(drawn), batch)
    ]
    generator = np.random.Generator(np.random.PCG64(sample_seed(seed, window, 0, "buckets")))
    return [batches[number] for number in generator.permutation(size)]
