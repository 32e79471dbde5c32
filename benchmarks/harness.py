"""Shared by all rows: alternating pairs, a median ratio with its spread, one JSON file per measurement.

A row is a module `benchmarks/row_NN_name.py` with a function `measure() -> Iterable[Result]` and

    if __name__ == "__main__":
        main(measure)

    def measure() -> Iterable[Result]:
        claim = Claim(row=8, name="tokenize", title="tokenize from JPEG shards", unit="images/s", better="higher",
                      against="the encoder alone on ready tensors", bar=at_least(0.9))
        pairs = alternate(run_ours, run_reference, pairs=5)      # each returns its figure in the claim's unit
        yield measured(claim, pairs, shapes={"image_size": 64}, note="…", floor=Floor(210.0, "encoder FLOPs / …"))
        yield not_measured(claim, "needs a CUDA GPU", shapes={…})

Both sides run in one process tree, in turn, a few times after a warm-up of each. The ratio says how many times better ours is;
its spread is the lowest and the highest ratio of a pair.
"""

import inspect
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from workspace.commands import parser_of
from workspace.exact.manifest import write_json
from workspace.progress import say
from workspace.versions import OF_SPEED, versions

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"


@dataclass(frozen=True)
class Bar:
    """A bar to reach.

    Attributes:
        limit: the figure.
        reach: at least it, or at most.
        of: the median ratio, or ours itself (in the claim's unit).
    """

    limit: float
    reach: Literal["at least", "at most"]
    of: Literal["ratio", "ours"]

    def met(self, ours: float, ratio: float | None) -> bool:
        """Whether these figures reach it."""
        figure = ours if self.of == "ours" else ratio
        assert figure is not None, "a bar on a ratio needs a reference"
        return figure >= self.limit if self.reach == "at least" else figure <= self.limit

    def text(self, unit: str) -> str:
        """≥ 15×, or ≤ 60 s."""
        sign = "≥" if self.reach == "at least" else "≤"
        return f"{sign} {self.limit:,g}" + ("×" if self.of == "ratio" else f" {unit}")


def at_least(limit: float, of: Literal["ratio", "ours"] = "ratio") -> Bar:
    """≥ limit."""
    return Bar(limit, "at least", of)


def at_most(limit: float, of: Literal["ratio", "ours"] = "ours") -> Bar:
    """≤ limit."""
    return Bar(limit, "at most", of)


@dataclass(frozen=True)
class Claim:
    """A measurement's description.

    Attributes:
        row: its number in the table of rows.
        name: its file's name under results/, unique.
        title: what is measured.
        unit: of ours, the reference and the floor.
        better: whether a lower figure is better, or a higher one; decides which way the ratio is taken.
        against: the reference; "" if there is none.
        bar: what must be reached; None for a figure beside a row, reported without a verdict.
    """

    row: int
    name: str
    title: str
    unit: str
    better: Literal["lower", "higher"]
    against: str
    bar: Bar | None


@dataclass(frozen=True)
class Floor:
    """The best that this machine could do: a figure in the claim's unit, and how it was computed."""

    value: float
    how: str


@dataclass(frozen=True)
class Pairs:
    """Figures of ours and of the reference, measured in turn; no reference leaves the second empty."""

    ours: tuple[float, ...]
    reference: tuple[float, ...]

    def ratios(self, better: Literal["lower", "higher"]) -> list[float]:
        """How many times better ours was in each pair."""
        both = zip(self.ours, self.reference, strict=False)
        return [theirs / mine if better == "lower" else mine / theirs for mine, theirs in both]


@dataclass(frozen=True)
class Result:
    """One measurement, as its JSON file tells it; ours, reference and ratio are medians, null where not measured."""

    row: int
    name: str
    title: str
    against: str
    unit: str
    better: str
    ours: float | None
    reference: float | None
    ratio: float | None
    spread: tuple[float, float] | None
    pairs: Mapping[str, tuple[float, ...]]
    floor: Floor | None
    bar: str | None
    met: bool | None
    note: str
    shapes: Mapping[str, Any]


def alternate(
    ours: Callable[[], float],
    reference: Callable[[], float] | None = None,
    pairs: int = 5,
    warm_up: bool = True,
) -> Pairs:
    """Run both in turn.

    Args:
        ours: runs ours once and returns its figure (`seconds(work)` where that is its time).
        reference: the same of what it replaces.
        pairs: how often.
        warm_up: run each once before, uncounted.
    """
    sides = [side for side in (ours, reference) if side is not None]
    for side in sides if warm_up else ():
        side()
    figures = [[side() for side in sides] for _ in range(pairs)]
    mine, *theirs = zip(*figures, strict=True)
    return Pairs(mine, theirs[0] if theirs else ())


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def measured(
    claim: Claim, pairs: Pairs, shapes: Mapping[str, Any], note: str = "", floor: Floor | None = None
) -> Result:
    """The result of these pairs."""
    ours = statistics.median(pairs.ours)
    reference = statistics.median(pairs.reference) if pairs.reference else None
    ratios = pairs.ratios(claim.better)
    ratio = statistics.median(ratios) if ratios else None
    met = None if claim.bar is None else claim.bar.met(ours, ratio)
    spread = (min(ratios), max(ratios)) if ratios else None
    return _result(claim, shapes, note, floor, pairs, (ours, reference, ratio), spread, met)


def not_measured(claim: Claim, note: str, shapes: Mapping[str, Any]) -> Result:
    """A result that says why there is none."""
    return _result(claim, shapes, note, None, Pairs((), ()), (None, None, None), None, None)


def _result(
    claim: Claim,
    shapes: Mapping[str, Any],
    note: str,
    floor: Floor | None,
    pairs: Pairs,
    medians: tuple[float | None, float | None, float | None],
    spread: tuple[float, float] | None,
    met: bool | None,
) -> Result:
    bar = None if claim.bar is None else claim.bar.text(claim.unit)
    head = (claim.row, claim.name, claim.title, claim.against, claim.unit, claim.better)
    return Result(*head, *medians, spread, asdict(pairs), floor, bar, met, note, shapes)


def machine() -> dict[str, Any]:
    """The processor, how many cores, the torch threads, the load of the last minute; a GPU's name where there is one."""
    import torch

    told = {
        "processor": processor(),
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2),
    }
    return told | ({"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {})


def processor() -> str:
    """Its name, where the system tells it."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def commit() -> str:
    """The commit that is checked out, `-changed` where code differs from it."""

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", "*.py", "*.yaml")
    return git("rev-parse", "--short=12", "HEAD") + ("-changed" if changed else "")


def publish(result: Result, command: str, folder: Path) -> None:
    """Write the result's JSON file, with commit, command, versions and machine."""
    facts = {
        "commit": commit(),
        "command": command,
        "versions": {"python": platform.python_version()} | versions(OF_SPEED),
        "machine": machine(),
    }
    write_json(folder / f"{result.name}.json", asdict(result) | facts)


def line(result: Result) -> str:
    """The result in one line, for the person who waits."""
    if result.ours is None:
        return f"row {result.row}, {result.title}: not measured: {result.note}"
    parts = [f"{result.ours:,.4g} {result.unit}"]
    if result.reference is not None and result.ratio is not None and result.spread is not None:
        low, high = result.spread
        parts.append(
            f"against {result.reference:,.4g} ({result.against}): {result.ratio:.3g}× ({low:.3g} … {high:.3g})"
        )
    if result.floor is not None:
        parts.append(f"floor {result.floor.value:,.4g}")
    if result.bar is not None:
        parts.append(f"bar {result.bar}: {'met' if result.met else 'NOT MET'}")
    return f"row {result.row}, {result.title}: " + "; ".join(parts)


def main(measure: Callable[[], Iterable[Result]]) -> None:
    """The command line of a row's module: measure, write a JSON file a result, tell each in a line."""
    module = Path(inspect.getfile(measure)).stem
    doc = sys.modules[measure.__module__].__doc__
    parser = parser_of(f"benchmarks.{module}", doc)
    parser.add_argument(
        "--out", type=Path, default=RESULTS, help="folder of the JSON files (benchmarks/results)"
    )
    out = parser.parse_args().out
    for result in measure():
        publish(result, f"python -m benchmarks.{module}", out)
        say(line(result))
