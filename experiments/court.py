"""Collect the court's runs, and judge every chooser of cells against the paper's.

python -m experiments.court --table experiments/court/params.yaml --runs artifacts/court --out docs/results/court

OUT.json keeps every run that was ever collected, by arm and seed with its commit: runs of other days stay, and a run that is here
again takes the place of the old one. OUT.md is rendered from it. Seeds are paired: equal data order, weights and noise as far as
two arms share them.

A verdict is about the mean of the paired differences, by its 95 % interval (Student's t, two-sided), and the margin below which a
difference would not matter (the table's `margins`):
    equal        the interval is within ± margin, even where it leaves out 0
    better, worse  it is beyond 0 on one side
    not resolved   neither: more seeds are needed; how many is estimated
"""

import argparse
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from scipy.special import stdtrit

from experiments.table import COLUMNS, Column, cell, commit_of, numbers_of
from workspace.errors import UserError, mistakes_in_one_line
from workspace.exact.manifest import read_json, write_json
from workspace.progress import say

Runs = dict[str, dict[str, dict[str, Any]]]
"""Arm → seed → column → number, and `commit`."""
SHOWN: dict[str, Column] = {
    "psnr": COLUMNS["psnr"],
    "rfd": COLUMNS["rfd"],
    "fd": COLUMNS["fd"],
    "nats": COLUMNS["nats"],
    "code_nats": Column("train_stackformer", ("code_nats_per_image",), -1, 1),
    "position_nats": Column("train_stackformer", ("position_nats_per_image",), -1, 1),
    "raw_bits": Column("train_stackformer", ("bits_per_image_raw",), -1, 0),
    "mask_auc": COLUMNS["mask_auc"],
    "images_per_second": COLUMNS["images_per_second"],
}
CONFIDENCE, POWER = 0.95, 0.8
MOST_SEEDS = 200


@dataclass(frozen=True)
class Verdict:
    """One arm against the paper's in one column.

    Attributes:
        arm, column: which.
        verdict: better, worse, equal, not resolved.
        mean: of the paired differences; > 0 where the arm is better.
        half: half of the 95 % interval's width; infinite for one seed.
        margin: the smallest difference that would matter.
        seeds: how many pairs.
        needed: seeds that would show a difference of one margin with 80 % power, by the spread so far; None for one seed.
    """

    arm: str
    column: str
    verdict: str
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


def collected(table: Mapping[str, Any], runs: Path, before: Runs) -> Runs:
    """The earlier runs, with this folder's runs added or replacing them; unfinished runs are left out."""
    found: Runs = {arm: dict(seeds) for arm, seeds in before.items()}
    for row in table["rows"]:
        for folder in sorted((runs / row["arm"]).glob("[0-9]*")):
            numbers = {name: numbers_of(folder, column) for name, column in SHOWN.items()}
            if numbers["fd"] is None:  # evaluate is the last stage
                continue
            values = {name: value[1] for name, value in numbers.items() if value is not None}
            found.setdefault(row["arm"], {})[folder.name] = values | {"commit": commit_of(folder)}
    return found


def verdicts(table: Mapping[str, Any], runs: Runs) -> list[Verdict]:
    """Every arm against the paper's scorer, in each column that has a margin, over the seeds that both have."""
    against = runs.get(table["against"], {})
    found = []
    for row in table["rows"]:
        mine = runs.get(row["arm"], {})
        shared = sorted(set(mine) & set(against), key=int)
        if row["arm"] == table["against"] or not shared:
            continue
        for column, margin in table["margins"].items():
            found.append(
                _verdict(row["arm"], column, margin, [mine[s] for s in shared], [against[s] for s in shared])
            )
    return found


def _verdict(
    arm: str,
    column: str,
    margin: Mapping[str, float],
    mine: Sequence[Mapping[str, Any]],
    theirs: Sequence[Mapping[str, Any]],
) -> Verdict:
    base = [float(one[column]) for one in theirs]
    differences = [
        SHOWN[column].sign * (float(one[column]) - other) for one, other in zip(mine, base, strict=True)
    ]
    matters = margin["amount"] if "amount" in margin else margin["share"] * abs(statistics.mean(base))
    verdict, mean, half = judged(differences, matters)
    needed = seeds_needed(statistics.stdev(differences), matters) if len(differences) > 1 else None
    return Verdict(arm, column, verdict, mean, half, matters, len(differences), needed)


def markdown(table: Mapping[str, Any], runs: Runs, found: Sequence[Verdict]) -> str:
    """The numbers and the verdicts as two tables."""
    lines = [
        f"# {table['title']}",
        "",
        f"| chooser | seeds | {' | '.join(SHOWN)} |",
        "|---" * (len(SHOWN) + 2) + "|",
    ]
    titles = {row["arm"]: row["title"] for row in table["rows"]}
    for arm, title in titles.items():
        seeds = runs.get(arm, {})
        values = [[float(one[name]) for one in seeds.values() if name in one] for name in SHOWN]
        cells = [
            cell(numbers, column.digits) if numbers else "–"
            for numbers, column in zip(values, SHOWN.values(), strict=True)
        ]
        lines.append(f"| {title} | {len(seeds)} | " + " | ".join(cells) + " |")
    lines += ["", f"Against {titles[table['against']]}, paired by seed; > 0 is better.", ""]
    lines += [
        "| chooser | column | verdict | mean difference | margin | seeds | for 80 % power |",
        "|---" * 7 + "|",
    ]
    for one in found:
        interval = "–" if math.isinf(one.half) else f"± {one.half:.3g}"
        needed = "–" if one.needed is None else str(one.needed)
        lines.append(
            f"| {titles[one.arm]} | {one.column} | **{one.verdict}** | {one.mean:+.3g} {interval} | {one.margin:.3g} | "
            f"{one.seeds} | {needed} |"
        )
    return "\n".join(lines) + "\n"


def render(table_path: Path, runs: Path, out: Path) -> None:
    """Collect, judge, and write OUT.json and OUT.md."""
    table = yaml.safe_load(table_path.read_text(encoding="utf-8"))
    kept = out.with_suffix(".json")
    gathered = collected(table, runs, read_json(kept)["runs"] if kept.is_file() else {})
    if table["against"] not in gathered:
        raise UserError(
            f"{runs} has no finished run of {table['against']}, which all others are judged against: "
            f"`make court` with ONLY={table['against']} makes one"
        )
    found = verdicts(table, gathered)
    out.parent.mkdir(parents=True, exist_ok=True)
    rows = [asdict(one) | {"half": None if math.isinf(one.half) else one.half} for one in found]
    write_json(kept, {"title": table["title"], "runs": gathered, "verdicts": rows})
    out.with_suffix(".md").write_text(markdown(table, gathered, found), encoding="utf-8")
    resolved = sum(one.verdict != "not resolved" for one in found)
    say(f"{out}.md: {resolved} of {len(found)} comparisons have a verdict")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.court",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--table", type=Path, required=True, help="its rows and margins")
    parser.add_argument("--runs", type=Path, required=True, help="folder with ARM/SEED/metrics")
    parser.add_argument("--out", type=Path, required=True, help="path without extension")
    arguments = parser.parse_args()
    with mistakes_in_one_line():
        render(arguments.table, arguments.runs, arguments.out)


if __name__ == "__main__":
    main()
