"""A training run's curves as small charts, one per term, with training and validation values over the steps."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reporting.axes import Axis, axis, count_axis
from workspace.errors import UserError

Floats = NDArray[np.float64]

POINTS = 240
"""Most points per curve; longer curves are averaged over equal intervals."""
WIDTH, HEIGHT = 340.0, 200.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 10.0, 12.0, 26.0
LOGARITHMIC = 30.0
"""A positive curve with a larger ratio of maximum to minimum is drawn on a logarithmic scale."""


@dataclass(frozen=True)
class Table:
    """A curves file: steps int [n], and each term's values float [n]."""

    steps: NDArray[np.int64]
    terms: dict[str, Floats]


@dataclass(frozen=True)
class Line:
    """One curve in a chart: data for the reader's cursor, and an SVG path."""

    name: str
    steps: list[int]
    values: list[float]
    path: str
    points: list[tuple[float, float]]


@dataclass(frozen=True)
class Chart:
    """One term's curves, in a box of WIDTH × HEIGHT."""

    term: str
    x: Axis
    y: Axis
    lines: list[Line]
    stretch: int


@dataclass(frozen=True)
class Training:
    """A training stage: the important charts first, then the others; images or sequences per second."""

    stage: str
    main: list[Chart]
    others: list[Chart]
    rate: float | None


MAIN = (
    "loss",
    "l1",
    "psnr",
    "code",
    "position",
    "codebook_usage",
    "nats_per_image",
    "code_nats_per_image",
    "position_nats_per_image",
)


def read_table(path: Path) -> Table:
    """Read a TSV of `step` and terms.

    Raises:
        UserError: its first column is not `step`, or a row does not fit.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    names = lines[0].split("\t") if lines else []
    if not names or names[0] != "step":
        raise UserError(f"{path} does not begin with a column called step: run the training stage again")
    try:
        rows = np.array([[float(cell) for cell in line.split("\t")] for line in lines[1:]], dtype=np.float64)
        rows = rows.reshape(len(lines) - 1, len(names))
    except ValueError as error:
        raise UserError(f"{path} has a row that is not {len(names)} numbers: {error}") from error
    return Table(rows[:, 0].astype(np.int64), {name: rows[:, i] for i, name in enumerate(names) if i})


def read_training(folder: Path) -> Training | None:
    """Charts of metrics/STAGE; None if the stage wrote no curves."""
    if not (folder / "curves.tsv").is_file():
        return None
    train = read_table(folder / "curves.tsv")
    tables = {"training": train}
    if (folder / "validation.tsv").is_file():
        tables["validation"] = read_table(folder / "validation.tsv")
    rates = train.terms.pop("samples_per_second", np.zeros(0))
    names = list(dict.fromkeys(name for table in tables.values() for name in table.terms))
    charts = [chart for name in names if (chart := draw(name, tables)) is not None]
    main = [chart for chart in charts if chart.term in MAIN]
    others = [chart for chart in charts if chart.term not in MAIN]
    return Training(folder.name, main, others, float(np.median(rates)) if len(rates) else None)


def draw(term: str, tables: dict[str, Table]) -> Chart | None:
    """The chart of one term; None if no value is finite."""
    series = []
    for name, table in tables.items():
        if term in table.terms:
            finite = np.isfinite(table.terms[term])
            if finite.any():
                series.append((name, table.steps[finite], table.terms[term][finite]))
    if not series:
        return None
    stretch = max(math.ceil(len(values) / POINTS) for _, _, values in series)
    thinned = [(name, *_thin(steps, values)) for name, steps, values in series]
    values = np.concatenate([values for _, _, values in thinned])
    logarithmic = bool(values.min() > 0 and values.max() / values.min() > LOGARITHMIC)
    last = max(int(steps[-1]) for _, steps, _ in thinned)
    x = count_axis(last, LEFT, WIDTH - RIGHT, ticks=4)
    y = axis(values.min(), values.max(), HEIGHT - BOTTOM, TOP, logarithmic, ticks=4)
    return Chart(term, x, y, [_line(name, steps, values, x, y) for name, steps, values in thinned], stretch)


def _thin(steps: NDArray[np.int64], values: Floats) -> tuple[NDArray[np.int64], Floats]:
    """At most POINTS points: the last step and the mean value of each of equal intervals."""
    size = math.ceil(len(steps) / POINTS)
    starts = np.arange(0, len(steps), size)
    counts = np.diff(np.append(starts, len(steps)))
    return steps[starts + counts - 1], np.add.reduceat(values, starts) / counts


def _line(name: str, steps: NDArray[np.int64], values: Floats, x: Axis, y: Axis) -> Line:
    points = [
        (x.place(float(step)), y.place(float(value))) for step, value in zip(steps, values, strict=True)
    ]
    shown = [float(f"{value:.5g}") for value in values]
    return Line(name, steps.tolist(), shown, _path(points), points)


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
