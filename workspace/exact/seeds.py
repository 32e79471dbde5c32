"""Seeds: derives seeds, and numbers in [0, 1), from a setting's seed and their purpose. No other module derives seeds.

A derived seed is a hash of its parts, so that equal parts give equal seeds on any machine, and different parts different ones.
"""

import argparse
import hashlib
from typing import Annotated

from pydantic import Field

END = 1 << 63
"""Seeds are in [0, 2⁶³), which torch's and numpy's generators and all JSON readers accept."""
Seed = Annotated[int, Field(ge=0, lt=END)]
"""The type of a setting that is a seed."""
STEPS, MICRO_BATCHES = 1_000_003, 1_009
"""Below these bounds a step's seed packs its numbers into one, because older checkpoints must resume with the same bits."""


def require_seed(seed: int) -> int:
    """Returns the seed, if it is valid.

    Raises:
        ValueError: not a whole number, or not in [0, 2⁶³).
    """
    # `type(…) is`, because True is an int in Python but not a seed
    if type(seed) is not int or not 0 <= seed < END:
        raise ValueError(f"seed is {seed!r}; expected a whole number, 0 ≤ seed < 2⁶³")
    return seed


def seed_argument(text: str) -> int:
    """A seed from the command line, for argparse."""
    try:
        return require_seed(int(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"seed is {text}; expected a whole number, 0 ≤ seed < 2⁶³"
        ) from error


def hashed(seed: int, *parts: int | str) -> int:
    """A number in [0, 2⁶⁴) that depends only on the seed and the parts.

    Parts are joined by `/`, so only the last may contain one. A file name may hold any bytes.

    Raises:
        ValueError: an invalid seed.
    """
    text = "/".join(map(str, (require_seed(seed), *parts)))
    digest = hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def hashed_unit(seed: int, *parts: int | str) -> float:
    """A uniform number in [0, 1] that depends only on the seed and the parts."""
    return hashed(seed, *parts) / 2**64


def sample_seed(seed: int, epoch: int, index: int, purpose: str) -> int:
    """A seed in [0, 2⁶³) for one use of one sample in one epoch."""
    return hashed(seed, epoch, index, purpose) >> 1


def step_seed(seed: int, step: int) -> int:
    """A seed in [0, 2⁶³) for random numbers that all workers share in a training step; unique per (seed, step)."""
    packed = require_seed(seed) * STEPS + step
    return packed if step < STEPS and packed < END else hashed(seed, step) >> 1


def micro_batch_seed(seed: int, step: int, micro_batch: int) -> int:
    """A seed in [0, 2⁶³) for a micro-batch's random numbers in a training step; unique per (seed, step, micro-batch)."""
    packed = (require_seed(seed) * STEPS + step) * MICRO_BATCHES + micro_batch
    fits = step < STEPS and micro_batch < MICRO_BATCHES and packed < END
    return packed if fits else hashed(seed, step, micro_batch) >> 1
