"""Verdicts on paired differences: an interval, a margin below which nothing matters, and what a difference may have cost."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import stdtrit

CONFIDENCE, POWER = 0.95, 0.8
MOST_SEEDS = 200


@dataclass(frozen=True)
class Verdict:
    """One arm against another in one column.

    Attributes:
        arm, against, column: which.
        verdict: better, worse, equal, not resolved.
        at_equal_codes, at_equal_bits: what of it holds at an equal number of codes, and at equal bits of codes and positions;
            "open" if the winner used more.
        mean: of the paired differences; > 0 where the arm is better.
        half: half of the 95 % interval's width; infinite for one seed.
        margin: the smallest difference that would matter.
        seeds: how many pairs.
        needed: seeds that would show a difference of one margin with 80 % power, by the spread so far; None for one seed.
    """

    arm: str
    against: str
    column: str
    verdict: str
    at_equal_codes: str
    at_equal_bits: str
    mean: float
    half: float
    margin: float
    seeds: int
    needed: int | None


def judged(differences: Sequence[float], margin: float) -> tuple[str, float, float]:
    """Verdict, mean and half interval of paired differences (> 0: better)."""
    mean = statistics.mean(differences)
    if len(differences) < 2:
        return "not resolved", mean, math.inf
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    half = float(stdtrit(len(differences) - 1, (1 + CONFIDENCE) / 2)) * error
    if abs(mean) + half <= margin:
        return "equal", mean, half
    if abs(mean) <= half:
        return "not resolved", mean, half
    return ("better" if mean > 0 else "worse"), mean, half


def within(verdict: str, mine: float, theirs: float) -> str:
    """What a verdict says within one budget: itself, or "open" if the side that it favours spent more.

    The side that is as good with less may leave the rest unused, so an equal result holds for it.

    Args:
        verdict: of `judged`.
        mine, theirs: what each side spent.
    """
    bought = (
        mine > theirs if verdict in ("better", "equal") else mine < theirs if verdict == "worse" else False
    )
    return "open" if bought else verdict


def seeds_needed(spread: float, margin: float) -> int:
    """The fewest seeds (2 … `MOST_SEEDS`) whose two-sided test at 95 % finds a true difference of `margin` with 80 % power.

    Args:
        spread: standard deviation of the paired differences.
        margin: of the same unit, > 0.
    """
    for count in range(2, MOST_SEEDS):
        degrees = count - 1
        needed = stdtrit(degrees, (1 + CONFIDENCE) / 2) + stdtrit(degrees, POWER)
        if needed * spread / math.sqrt(count) <= margin:
            return count
    return MOST_SEEDS
