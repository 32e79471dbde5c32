"""Collect the court's runs, and judge every chooser of cells against the paper's, a checkerboard and VQGAN.

python -m experiments.court --table experiments/court/params.yaml --runs artifacts/court --out docs/results/court

OUT.json keeps every run that was ever collected, by arm and seed with its commit: runs of other days stay, and a run that is here
again takes the place of the old one. OUT.md is rendered from it, with OUT_costs.json (`python -m benchmarks.court`), and so is
the court's place in docs/results.md. Seeds are paired: equal data order, weights and noise as far as two arms share them.

A verdict is about the mean of the paired differences, by its 95 % interval (Student's t, two-sided), and the margin below which a
difference would not matter (the table's `margins`):
    equal        the interval is within ± margin, even where it leaves out 0
    better, worse  it is beyond 0 on one side
    not resolved   neither: more seeds are needed; how many is estimated
Beside it is what it says at equal codes, and at equal bits of codes and positions: nothing, where the winner used more.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from experiments.court_page import markdown
from experiments.table import COLUMNS, Column, commit_of, numbers_of, place
from experiments.verdicts import Verdict, judged, seeds_needed, within
from shards.tokens.reading import SAME_PLACES
from workspace.commands import parser_of
from workspace.errors import UserError, mistakes_in_one_line
from workspace.exact.manifest import read_json, write_json
from workspace.progress import say

Runs = dict[str, dict[str, dict[str, Any]]]
"""Arm → seed → column → number, and `commit`."""
DOCUMENT = Path("docs/results.md")
TAKEN: dict[str, Column] = {
    "psnr": COLUMNS["psnr"],
    "rfd": COLUMNS["rfd"],
    "fd": COLUMNS["fd"],
    "second_rfd": COLUMNS["second_rfd"],
    "second_fd": COLUMNS["second_fd"],
    "nats": COLUMNS["nats"],
    "code_nats": Column("train_stackformer", ("code_nats_per_image",), -1, 1),
    "position_nats": Column("train_stackformer", ("position_nats_per_image",), -1, 1),
    "code_bits": Column("train_stackformer", ("code_bits_per_image_raw",), -1, 0),
    "position_bits": Column("train_stackformer", ("position_bits_per_image_raw",), -1, 0),
    "mask_auc": COLUMNS["mask_auc"],
    "mqvae_parameters": Column("train_mqvae", ("parameters",), -1, 0),
    "stackformer_parameters": Column("train_stackformer", ("parameters",), -1, 0),
}


def numbers_of_run(folder: Path) -> dict[str, Any] | None:
    """All numbers of a finished run, with its codes and bits; None while evaluate, the last stage, has not been."""
    numbers = {name: numbers_of(folder, column) for name, column in TAKEN.items()}
    if numbers["fd"] is None:
        return None
    values: dict[str, Any] = {name: value[1] for name, value in numbers.items() if value is not None}
    return values | _spent(folder, values) | {"commit": _commit(folder)}


def _spent(folder: Path, values: Mapping[str, float]) -> dict[str, float]:
    """Codes of an image, and bits of them and their positions before any entropy coding."""
    path = folder / "metrics" / "train_mqvae" / "protocol.json"
    if not path.is_file():
        return {}
    model = read_json(path)["settings"]["model"]
    # older runs, whose token sets do not say so, have log₂ (L choose N) bits of positions that are the same in every image
    positions = 0.0 if model["mask"] in SAME_PLACES else values["position_bits"]
    codes = round(values["code_bits"] / math.log2(model["num_codes"]))
    return {"codes": codes, "position_bits": positions, "bits": values["code_bits"] + positions}


def _commit(folder: Path) -> str:
    """The commit that the run's last stage noted; without a note, that of the tree."""
    path = folder / "metrics" / "evaluate" / "run.json"
    noted = (read_json(path).get("origin") or {}).get("revision") if path.is_file() else None
    return str(noted) if noted else commit_of(folder)


def collected(table: Mapping[str, Any], runs: Path, before: Runs) -> Runs:
    """The earlier runs, with this folder's runs added or replacing them; unfinished runs are left out."""
    found: Runs = {arm: dict(seeds) for arm, seeds in before.items()}
    for row in table["rows"]:
        for folder in sorted((runs / row["arm"]).glob("[0-9]*")):
            numbers = numbers_of_run(folder)
            if numbers is not None:
                found.setdefault(row["arm"], {})[folder.name] = numbers
    return found


def verdicts(table: Mapping[str, Any], runs: Runs) -> list[Verdict]:
    """Every arm against each of the table's, in each column that has a margin, over the seeds that both have; a pair once."""
    found, done = [], set[frozenset[str]]()
    for against in table["against"]:
        for row in table["rows"]:
            mine, theirs = runs.get(row["arm"], {}), runs.get(against, {})
            shared = sorted(set(mine) & set(theirs), key=int)
            pair = frozenset((row["arm"], against))
            if len(pair) < 2 or pair in done or not shared:
                continue
            done.add(pair)
            sides = [mine[seed] for seed in shared], [theirs[seed] for seed in shared]
            found += [
                _verdict((row["arm"], against, column), margin, *sides)
                for column, margin in table["margins"].items()
            ]
    return found


def _verdict(
    which: tuple[str, str, str],
    margin: Mapping[str, float],
    mine: Sequence[Mapping[str, Any]],
    theirs: Sequence[Mapping[str, Any]],
) -> Verdict:
    column = which[2]
    base = [float(one[column]) for one in theirs]
    differences = [
        TAKEN[column].sign * (float(one[column]) - other) for one, other in zip(mine, base, strict=True)
    ]
    matters = margin["amount"] if "amount" in margin else margin["share"] * abs(statistics.mean(base))
    verdict, mean, half = judged(differences, matters)
    needed = seeds_needed(statistics.stdev(differences), matters) if len(differences) > 1 else None
    # nats are what the bits come to once the second stage codes them: no other bits are their price
    equal_codes, equal_bits = (
        within(verdict, mine[0].get(price, 0), theirs[0].get(price, 0))
        for price in ("codes", "codes" if column == "nats" else "bits")
    )
    return Verdict(*which, verdict, equal_codes, equal_bits, mean, half, matters, len(differences), needed)


def render(table_path: Path, runs: Path, out: Path) -> None:
    """Collect, judge, and write OUT.json, OUT.md and the court's place in the document."""
    table = yaml.safe_load(table_path.read_text(encoding="utf-8"))
    kept, paid = out.with_suffix(".json"), out.with_name(f"{out.name}_costs.json")
    gathered = collected(table, runs, read_json(kept)["runs"] if kept.is_file() else {})
    first = table["against"][0]
    if first not in gathered:
        raise UserError(
            f"{runs} has no finished run of {first}, which all others are judged against: `make {table['base']}` with "
            f"ONLY={first} makes one"
        )
    found = verdicts(table, gathered)
    costs = read_json(paid)["costs"] if paid.is_file() else {}
    out.parent.mkdir(parents=True, exist_ok=True)
    rows = [asdict(one) | {"half": None if math.isinf(one.half) else one.half} for one in found]
    write_json(kept, {"title": table["title"], "runs": gathered, "verdicts": rows})
    text = markdown(table, gathered, found, costs)
    out.with_suffix(".md").write_text(f"# {table['title']}\n\n{text}", encoding="utf-8")
    place(text, out.name, DOCUMENT)
    resolved = sum(one.verdict != "not resolved" for one in found)
    say(f"{out}.md: {resolved} of {len(found)} comparisons have a verdict")


def main() -> None:
    """The command line."""
    parser = parser_of("experiments.court", __doc__)
    parser.add_argument("--table", type=Path, required=True, help="params.yaml with the rows and margins")
    parser.add_argument("--runs", type=Path, required=True, help="folder with ARM/SEED/metrics")
    parser.add_argument("--out", type=Path, required=True, help="path without extension")
    arguments = parser.parse_args()
    with mistakes_in_one_line():
        render(arguments.table, arguments.runs, arguments.out)


if __name__ == "__main__":
    main()
