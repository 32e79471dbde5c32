"""The order of several sets that are mixed by weight, as a pure function of (seed, step).

Places 0, 1, 2, … of the training are dealt to the sets by a schedule that repeats after `parts` places. A set with `share` of
them has, among the first t places, ⌊t · share / parts⌋ or ⌈t · share / parts⌉. No draw is random: any window of n places has
less than two samples more or less of a set than n · share / parts. Each set is read in its own order (`DataOrder`), epoch after
epoch.

A place goes to the set whose next sample is due first: its j-th may come from place ⌊(j - 1) · parts / share⌋ on and must come
before ⌈j · parts / share⌉. These are unit jobs with whole release times and deadlines. Divided among places they fit, so a
schedule keeps all deadlines, and earliest deadline first finds one. It takes four bytes per part and nothing per sample.
"""

from collections.abc import Sequence
from fractions import Fraction
from functools import cached_property
from math import gcd, lcm

import numpy as np
from numpy.typing import NDArray

from workspace.exact.order import DataOrder
from workspace.exact.seeds import sample_seed

MOST_PARTS = 1 << 14
"""Places after which a schedule repeats; weights that need more are rounded to multiples of 1 / 16,384 of their sum."""


def shares_of(weights: Sequence[float]) -> tuple[int, ...]:
    """Weights as whole numbers in their proportion, as they are written in decimals: (0.7, 0.3) → (7, 3).

    Where their sum would exceed `MOST_PARTS` they are rounded to that sum, each to at least 1.

    Raises:
        ValueError: no weight, or one that is not a number > 0.
    """
    if not weights or not all(0 < weight < float("inf") for weight in weights):
        raise ValueError(f"weights are {list(weights)}; expected numbers > 0")
    exact = [Fraction(str(weight)) for weight in weights]
    whole = lcm(*(weight.denominator for weight in exact))
    shares = [int(weight * whole) for weight in exact]
    shares = [share // gcd(*shares) for share in shares]
    return tuple(shares) if sum(shares) <= MOST_PARTS else _rounded(exact)


def _rounded(weights: Sequence[Fraction]) -> tuple[int, ...]:
    """Largest remainders, so that the sum is `MOST_PARTS`; a set that would have nothing has 1 of the largest's."""
    wanted = [weight * MOST_PARTS / sum(weights) for weight in weights]
    shares = [int(part) for part in wanted]
    left = MOST_PARTS - sum(shares)
    for number in sorted(range(len(shares)), key=lambda k: shares[k] - wanted[k])[:left]:
        shares[number] += 1
    for number in [k for k, share in enumerate(shares) if not share]:
        shares[number], shares[int(np.argmax(shares))] = 1, max(shares) - 1
    return tuple(shares)


def schedule(shares: Sequence[int]) -> NDArray[np.uint16]:
    """The set at each place of one period, [sum of shares]: earliest deadline first, the first set of equally urgent ones."""
    parts, share_K = sum(shares), np.asarray(shares, np.int64)
    given_K, sets = np.zeros(len(shares), np.int64), np.empty(parts, np.uint16)
    for place in range(parts):
        released_K = given_K * parts < (place + 1) * share_K
        deadline_K = -(-(given_K + 1) * parts // share_K)
        sets[place] = chosen = int(np.argmin(np.where(released_K, deadline_K, parts + 1)))
        given_K[chosen] += 1
    assert (given_K == share_K).all(), (given_K, share_K)
    return sets


class MixedOrder:
    """The order of several sets: `batch` gives (epoch, index) as `DataOrder.batch` does, with the sets' samples numbered on.

    Args:
        seed: of the order; the first set's is the one that it has alone.
        sets: sizes of the shards of each set, in order.
        group: shards whose members are mixed.
        weights: how often each set is read, > 0.
    """

    def __init__(
        self, seed: int, sets: Sequence[Sequence[int]], group: int, weights: Sequence[float]
    ) -> None:
        self.shares = np.asarray(shares_of(weights), np.int64)
        self.parts = int(self.shares.sum())
        seeds = [seed if k == 0 else sample_seed(seed, 0, k, "set") for k in range(len(sets))]
        self.orders = [DataOrder(own, sizes, group) for own, sizes in zip(seeds, sets, strict=True)]
        self.starts = np.cumsum([0, *(order.total for order in self.orders)])

    @cached_property
    def _period(self) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
        """The set at each place of a period, and how many places before it are the same set's."""
        sets = schedule(self.shares.tolist())
        before = np.zeros(self.parts, np.uint16)
        for k, share in enumerate(self.shares):
            before[sets == k] = np.arange(share)
        return sets, before

    def places(self, first: int, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The set at places first … first + count - 1 of the training, and which of its samples it is, counted from 0."""
        sets, before = self._period
        rounds, part = np.divmod(np.arange(first, first + count, dtype=np.int64), self.parts)
        chosen = sets[part].astype(np.int64)
        return chosen, rounds * self.shares[chosen] + before[part]

    def batch(self, step: int, size: int) -> list[tuple[int, int]]:
        """The (epoch, index) of each sample of a step's global batch of `size`; index counts over all sets, in their order."""
        chosen, numbers = self.places(step * size, size)
        found: list[tuple[int, int]] = [(0, 0)] * size
        for k in np.unique(chosen).tolist():
            at = np.flatnonzero(chosen == k).tolist()  # a set's samples come one after the other
            samples = self.orders[k].run(int(numbers[at[0]]), len(at))
            for place, (epoch, index) in zip(at, samples, strict=True):
                found[place] = epoch, index + int(self.starts[k])
        return found
