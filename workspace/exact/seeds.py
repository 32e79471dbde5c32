"""Seeds: the one place where a seed, or a number in [0, 1), is derived from a setting's seed and from what it is for.

A derived seed is a hash of its parts, so that equal parts give equal seeds on any machine, and other parts others.
"""

import argparse
import hashlib
from typing import Annotated

from pydantic import Field

END = 1 << 63
"""Seeds lie in [0, 2⁶³): torch's generators, numpy's and every reader of JSON take these."""
Seed = Annotated[int, Field(ge=0, lt=END)]
"""A setting that is a seed."""
STEPS, MICRO_BATCHES = 1_000_003, 1_009
"""Below these a step's seed is its numbers in one: so it was always, and older checkpoints must resume with the same bits."""


def require_seed(seed: int) -> int:
    """The seed itself.

    Raises:
        ValueError: not a whole number, or not in [0, 2⁶³).
    """
    if type(seed) is not int or not 0 <= seed < END:  # True is an int to Python, and nobody's seed
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
    """A number in [0, 2⁶⁴) that depends on the seed and the parts alone.

    Parts are joined by `/`: only the last may hold one. A file's name may be any bytes.

    Raises:
        ValueError: a seed that is not one.
    """
    text = "/".join(map(str, (require_seed(seed), *parts)))
    digest = hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def hashed_unit(seed: int, *parts: int | str) -> float:
    """A number in [0, 1], uniform, that depends on the seed and the parts alone."""
    return hashed(seed, *parts) / 2**64


def sample_seed(seed: int, epoch: int, index: int, purpose: str) -> int:
    """A seed in [0, 2⁶³) for one use of one sample in one epoch."""
    return hashed(seed, epoch, index, purpose) >> 1


def step_seed(seed: int, step: int) -> int:
    """A seed in [0, 2⁶³) for what all workers draw alike in a training step: no two (seed, step) share one."""
    packed = require_seed(seed) * STEPS + step
    return packed if step < STEPS and packed < END else hashed(seed, step) >> 1


def micro_batch_seed(seed: int, step: int, micro_batch: int) -> int:
    """A seed in [0, 2⁶³) for what a micro-batch of a training step draws: no two (seed, step, micro-batch) share one."""
    packed = (require_seed(seed) * STEPS + step) * MICRO_BATCHES + micro_batch
    fits = step < STEPS and micro_batch < MICRO_BATCHES and packed < END
    return packed if fits else hashed(seed, step, micro_batch) >> 1
