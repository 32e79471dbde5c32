"""A keyed permutation of 0 … n - 1 that is computed where it is asked for: nothing of length n is ever made.

A Feistel network over the mixed radix a · b ≥ n with a = ⌈√n⌉ and b = ⌈n / a⌉ (Black and Rogaway, "Ciphers with Arbitrary
Finite Domains", 2002): a number is split into (x, y) = (v mod a, v div a), rounds add a hash of one half to the other, modulo
a and b in turn, and what falls on n or beyond is permuted again until it does not (cycle walking). Each round can be undone, so
the network is a permutation of 0 … a · b - 1, and walking its cycles gives one of 0 … n - 1. Since a · b - n < a, about one
number in √n walks.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workspace.exact.seeds import hashed

ROUNDS = 8
"""Four give a pseudorandom permutation where the halves are large (Luby and Rackoff); small ones want some more."""
MOST = 1 << 62
"""Numbers stay below this: sums of two fit uint64."""
MIX_1, MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
"""Multipliers of splitmix64's finaliser."""
SHIFTS = (np.uint64(30), np.uint64(27), np.uint64(31))


@dataclass(frozen=True)
class KeyedPermutation:
    """A permutation of 0 … n - 1 that follows from its keys.

    Attributes:
        length: n.
        keys: uint64 [8], one per round.
    """

    length: int
    keys: NDArray[np.uint64]

    @classmethod
    def of(cls, length: int, seed: int, *parts: int | str) -> "KeyedPermutation":
        """The one of a seed and of what it is for.

        Raises:
            ValueError: length is not in 0 … 2⁶², or the seed is not one.
        """
        if not 0 <= length <= MOST:
            raise ValueError(f"length is {length}; expected 0 ≤ length ≤ 2⁶²")
        first = hashed(seed, *parts)
        steps = (first + (number + 1) * 0x9E3779B97F4A7C15 & (1 << 64) - 1 for number in range(ROUNDS))
        return cls(length, _mixed(np.fromiter(steps, np.uint64, ROUNDS)))

    def __call__(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """What is at each place, int64 [B] → int64 [B], both in 0 … n - 1."""
        assert places.size == 0 or 0 <= places.min() <= places.max() < self.length
        found = self._network(places.astype(np.uint64))
        walking = np.flatnonzero(found >= np.uint64(self.length))
        while walking.size:
            found[walking] = self._network(found[walking])
            walking = walking[found[walking] >= np.uint64(self.length)]
        return found.astype(np.int64)

    def _network(self, values: NDArray[np.uint64]) -> NDArray[np.uint64]:
        a = math.isqrt(max(self.length, 1) - 1) + 1
        radix = np.uint64(a), np.uint64(-(-self.length // a))
        y, x = np.divmod(values, radix[0])
        halves = [x, y]
        for number, key in enumerate(self.keys):
            one = number % 2
            halves[one] = (halves[one] + _mixed(halves[1 - one] + key) % radix[one]) % radix[one]
        return halves[1] * radix[0] + halves[0]


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """splitmix64's finaliser: every bit of a number changes about half of the bits of the result."""
    values = (values ^ (values >> SHIFTS[0])) * MIX_1
    values = (values ^ (values >> SHIFTS[1])) * MIX_2
    return values ^ (values >> SHIFTS[2])
