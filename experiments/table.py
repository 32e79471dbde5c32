"""Render a table of arms × seeds: mean ± standard deviation beside the paper's numbers, and which orderings hold.

python -m experiments.table --table experiments/table6/params.yaml --runs artifacts/arms --out docs/results/table6

writes OUT.json and OUT.md, and puts the table into docs/results.md where that has a place for it. An ordering compares two arms
seed by seed (equal data order, equal seed): it held, or did not, where the mean of the differences is beyond the 95 % point of
Student's t over the seeds, one-sided; else it is not resolved.
"""

import math
import re
import statistics
import subprocess
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from scipy.special import stdtrit

from experiments.arm import ARMS
from reporting.markdown import table as table_of
from workspace.commands import parser_of
from workspace.errors import UserError, mistakes_in_one_line
from workspace.exact.manifest import atomic_path, read_json, write_json
from workspace.progress import say

CONFIDENCE = 0.95
DOCUMENT = Path("docs/results.md")


@dataclass(frozen=True)
class Column:
    """A number of an arm.

    Attributes:
        stage: whose metrics hold it.
        names: what it may be called there; it goes by the features that made it.
        sign: 1 where more is better, -1 where less is.
        digits: after the point.
    """

    stage: str
    names: tuple[str, ...]
    sign: int
    digits: int


COLUMNS = {
    "rfd": Column("reconstruct", ("rfid", "proxy_rfd", "squeezenet_rfd"), -1, 2),
    "second_rfd": Column("reconstruct", ("efficientnet_lite0_rfd",), -1, 2),
    "psnr": Column("reconstruct", ("psnr",), 1, 2),
    "codebook_usage": Column("reconstruct", ("codebook_usage",), 1, 3),
    "codebook_perplexity": Column("reconstruct", ("codebook_perplexity",), 1, 1),
    "codebook_effective_rank": Column("reconstruct", ("codebook_effective_rank",), 1, 2),
    "kind_right": Column("reconstruct", ("proxy_accuracy",), 1, 3),
    "mask_auc": Column("reconstruct", ("mask_auc_smooth", "mask_auc"), 1, 3),
    "fd": Column("evaluate", ("fid", "proxy_fd", "squeezenet_fd"), -1, 2),
    "second_fd": Column("evaluate", ("efficientnet_lite0_fd",), -1, 2),
    "floor": Column("evaluate", ("proxy_fd_train_val", "squeezenet_fd_train_val"), -1, 2),
    "second_floor": Column("evaluate", ("efficientnet_lite0_fd_train_val",), -1, 2),
    "nats": Column("train_stackformer", ("nats_per_image",), -1, 1),
    "images_per_second": Column("sample", ("images_per_second_of_a_worker",), 1, 0),
}
NAMED_BY_FEATURES = ("rfd", "fd", "floor", "second_rfd", "second_fd", "second_floor")
SIZES = {"mqvae": "train_mqvae", "stackformer": "train_stackformer"}


@dataclass(frozen=True)
class Arm:
    """One row.

    Attributes:
        name: as in arms.yaml.
        title: as shown.
        params: parameters of each model that was trained.
        values: column → one value per seed.
        paper: column → the paper's number.
    """

    name: str
    title: str
    params: Mapping[str, int]
    values: Mapping[str, Sequence[float]]
    paper: Mapping[str, float]


@dataclass(frozen=True)
class Ordering:
    """An expected ordering and its outcome.

    Attributes:
        text: the sentence.
        verdict: held, not held, not resolved.
        differences: by how much the arm that should be better is, one per seed; > 0 is the right way round.
        paper: whether the paper's own numbers have it so; None where it has none.
    """

    text: str
    verdict: str
    differences: Sequence[float]
    paper: bool | None


def verdict(differences: Sequence[float]) -> str:
    """Whether paired differences are beyond their spread: held, not held, or not resolved (one seed never is)."""
    if len(differences) < 2:
        return "not resolved"
    mean = statistics.mean(differences)
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    if abs(mean) <= stdtrit(len(differences) - 1, CONFIDENCE) * error or mean == 0:
        return "not resolved"
    return "held" if mean > 0 else "not held"


def numbers_of(folder: Path, column: Column) -> tuple[str, float] | None:
    """The column's number in an arm's metrics, with its name there; None where the stage does not belong to this table.

    Raises:
        UserError: the stage ran and has no such number.
    """
    path = folder / "metrics" / column.stage / "metrics.json"
    if not path.is_file():
        return None
    found = read_json(path)
    for name in column.names:
        if name in found:
            return name, float(found[name])
    return None


def needed_of(table: Mapping[str, Any], arm: str) -> list[str]:
    """The columns that a row must have: an arm that is trained here and not generated has no samples."""
    only_trained = arm in table["trained"] and arm not in table.get("generated", [])
    return [name for name in table["columns"] if not (only_trained and COLUMNS[name].stage == "evaluate")]


def read_arm(row: Mapping[str, Any], runs: Path, seeds: Sequence[int], needed: Sequence[str]) -> Arm:
    """A row of the table from its metrics.

    Raises:
        UserError: a run that the table needs is missing.
    """
    values: dict[str, list[float]] = {}
    for name, column in COLUMNS.items():
        found = [numbers_of(runs / row["arm"] / str(seed), column) for seed in seeds]
        if all(found):
            values[name] = [value for _, value in filter(None, found)]
        elif name in needed:
            seed = seeds[found.index(None)]
            raise UserError(
                f"{runs}/{row['arm']}/{seed} has no {name}: `make table6`, or the table's own target, runs what is missing"
            )
    first = runs / row["arm"] / str(seeds[0]) / "metrics"
    sizes = {
        model: int(read_json(first / stage / "metrics.json")["parameters"])
        for model, stage in SIZES.items()
        if (first / stage / "metrics.json").is_file()
    }
    return Arm(row["arm"], row["title"], sizes, values, row["paper"])


def orderings(table: Mapping[str, Any], arms: Mapping[str, Arm], called: Mapping[str, str]) -> list[Ordering]:
    """The table's expected orderings with their verdicts, one a column."""
    found = []
    for expected in table["orderings"]:
        better, worse = arms[expected["better"]], arms[expected["worse"]]
        for name in expected["columns"]:
            sign = COLUMNS[name].sign
            pairs = zip(better.values[name], worse.values[name], strict=True)
            differences = [sign * (one - other) for one, other in pairs]
            agrees = None
            if name in better.paper and name in worse.paper:
                agrees = sign * (better.paper[name] - worse.paper[name]) > 0
            text = f"{better.title} is better than {worse.title} in {called.get(name, name)}"
            found.append(Ordering(text, verdict(differences), differences, agrees))
    return found


def cell(values: Sequence[float], digits: int) -> str:
    """Mean ± standard deviation over seeds."""
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{spread}"


def markdown(
    table: Mapping[str, Any], arms: Sequence[Arm], held: Sequence[Ordering], called: Mapping[str, str]
) -> str:
    """The table and its orderings as Markdown."""
    columns = table["columns"]
    printed = [name for name in PAPER if any(name in arm.paper for arm in arms)]
    heads = [
        part
        for name in columns
        for part in (
            [called.get(name, name), f"paper's {PAPER[name]}"]
            if name in printed
            else [called.get(name, name)]
        )
    ]
    heads += ["parameters"] * any(arm.params for arm in arms)
    rows = []
    for arm in arms:
        cells = []
        for name in columns:
            cells.append(cell(arm.values[name], COLUMNS[name].digits) if name in arm.values else "–")
            if name in printed:
                cells.append(str(arm.paper.get(name, "–")))
        sizes = " + ".join(f"{count / 1e6:.2f} M" for count in arm.params.values())
        rows.append([arm.title, *[*cells, sizes][: len(heads)]])
    numbers = table_of(["arm", *heads], rows)
    if not held:
        return numbers
    paper = {True: "so", False: "the other way", None: "–"}
    verdicts = [
        (
            one.text,
            f"**{one.verdict}**",
            ", ".join(f"{value:+.3g}" for value in one.differences),
            paper[one.paper],
        )
        for one in held
    ]
    return f"{numbers}\n{table_of(['expected', 'verdict', 'difference by seed', 'in the paper'], verdicts)}"


PAPER = {"rfd": "rFID", "fd": "FID", "codebook_usage": "usage"}
"""Columns that the paper prints, by its names."""


def names_of(runs: Path, arms: Sequence[Arm], seed: int) -> dict[str, str]:
    """Column → what its number is really called in these runs (proxy_rfd, …)."""
    found = {}
    for name in NAMED_BY_FEATURES:
        for arm in arms:
            seen = numbers_of(runs / arm.name / str(seed), COLUMNS[name])
            if seen is not None:
                found[name] = seen[0]
    return found


def commit_of(folder: Path) -> str:
    """The commit of the tree that holds the runs."""
    command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def place(text: str, name: str, document: Path) -> None:
    """Put a table between its two markers in a document, if it has them."""
    if not document.is_file():
        return
    whole = document.read_text(encoding="utf-8")
    pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
    filled = re.sub(pattern, lambda found: found[1] + text + found[2], whole, flags=re.DOTALL)
    if filled != whole:
        with atomic_path(document) as path:
            path.write_text(filled, encoding="utf-8")


def render(table_path: Path, runs: Path, out: Path, command: str) -> None:
    """Read, judge, write OUT.json and OUT.md, and fill the table's place in the document."""
    table = yaml.safe_load(table_path.read_text(encoding="utf-8"))
    seeds = yaml.safe_load(ARMS.read_text(encoding="utf-8"))["seeds"][table["base"]]
    value, text = rendered(table, seeds, runs)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(out.with_suffix(".json"), value | {"command": command, "commit": commit_of(runs)})
    out.with_suffix(".md").write_text(f"# {table['title']}\n\n{text}", encoding="utf-8")
    place(text, out.name, DOCUMENT)
    say(f"{out}.md: {counted(value['orderings'])}")


def rendered(table: Mapping[str, Any], seeds: Sequence[int], runs: Path) -> tuple[dict[str, Any], str]:
    """A table as plain values, and as Markdown.

    Raises:
        UserError: a run that it needs is missing.
    """
    arms = [read_arm(row, runs, seeds, needed_of(table, row["arm"])) for row in table["rows"]]
    called = names_of(runs, arms, seeds[0])
    judged = orderings(table, {arm.name: arm for arm in arms}, called)
    value = {
        "title": table["title"],
        "seeds": list(seeds),
        "columns": called,
        "arms": [asdict(arm) for arm in arms],
        "orderings": [asdict(one) for one in judged],
    }
    return value, markdown(table, arms, judged, called)


def reduced(table: Mapping[str, Any], arms: Collection[str]) -> dict[str, Any]:
    """The table without the rows of other arms, and without the orderings that need them."""
    rows = [row for row in table["rows"] if row["arm"] in arms]
    kept = [one for one in table["orderings"] if one["better"] in arms and one["worse"] in arms]
    return {**table, "rows": rows, "orderings": kept}


def counted(judged: Sequence[Mapping[str, Any]]) -> str:
    """How many orderings came out how."""
    kinds = ("held", "not held", "not resolved")
    return ", ".join(f"{sum(one['verdict'] == kind for one in judged)} orderings {kind}" for kind in kinds)


def main() -> None:
    """The command line."""
    parser = parser_of("experiments.table", __doc__)
    parser.add_argument(
        "--table",
        type=Path,
        required=True,
        help="params.yaml with the rows, the paper's numbers and the orderings",
    )
    parser.add_argument("--runs", type=Path, required=True, help="folder with ARM/SEED/metrics")
    parser.add_argument("--out", type=Path, required=True, help="path without extension")
    arguments = parser.parse_args()
    with mistakes_in_one_line():
        render(arguments.table, arguments.runs, arguments.out, f"make {arguments.out.name}")


if __name__ == "__main__":
    main()
