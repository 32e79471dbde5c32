"""Chart axes: values → coordinates in an SVG box, with round ticks."""

import math
from dataclasses import dataclass

from reporting.numbers import shown


@dataclass(frozen=True)
class Tick:
    """A mark on an axis: its coordinate and label."""

    place: float
    label: str


@dataclass(frozen=True)
class Axis:
    """A scale from values in [low, high] to coordinates from `start` to `end` (either may be the larger).

    Attributes:
        low: the value at `start`.
        high: the value at `end`.
        start: the SVG coordinate of `low`.
        end: the SVG coordinate of `high`.
        logarithmic: whether equal ratios have equal lengths.
        ticks: round values in the range.
    """

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool
    ticks: list[Tick]

    def place(self, value: float) -> float:
        """A value's coordinate, rounded to a hundredth."""
        return round(_place(value, self.low, self.high, self.start, self.end, self.logarithmic), 2)


def count_axis(high: float, start: float, end: float, ticks: int) -> Axis:
    """A scale from 0 to exactly `high`, with round ticks."""
    values = [value for value in _round_values(0, high, ticks) if value <= high]
    marks = [Tick(round(_place(v, 0, high, start, end, False), 2), label(v)) for v in values]
    return Axis(0, high, start, end, False, marks)


def axis(low: float, high: float, start: float, end: float, logarithmic: bool, ticks: int) -> Axis:
    """A scale that covers [low, high], widened to round values, with about `ticks` ticks."""
    if logarithmic:
        values = _decades(low, high)
    else:
        values = _round_values(low, high if high > low else low + max(abs(low), 1) * 0.1, ticks)
    first, last = min(values[0], low), max(values[-1], high)
    marks = [Tick(round(_place(v, first, last, start, end, logarithmic), 2), label(v)) for v in values]
    return Axis(first, last, start, end, logarithmic, marks)


def label(value: float) -> str:
    """A tick's label, short: 12k, 0.05."""
    if value >= 10_000 and value % 100 == 0:
        return f"{value / 1000:g}k"
    return shown(round(value, 12))


def _place(value: float, low: float, high: float, start: float, end: float, logarithmic: bool) -> float:
    if logarithmic:
        value, low, high = math.log(value), math.log(low), math.log(high)
    return start + (end - start) * (value - low) / (high - low)


def _round_values(low: float, high: float, ticks: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten, from at or below `low` to at or above `high`."""
    rough = (high - low) / ticks
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(times * power for times in (1, 2, 5, 10) if times * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, last + 1)]


def _decades(low: float, high: float) -> list[float]:
    """Powers of ten that enclose the range; every second or third if there would be too many."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    every = max(1, math.ceil((last - first) / 5))
    return [10.0**power for power in range(first, last + every, every)]
