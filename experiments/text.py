"""Render what guidance does for captions: how often the shape and the colour that a caption names are seen.

python -m experiments.text --runs artifacts/text --out docs/results/text
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from experiments.table import commit_of, place
from reporting.markdown import table
from workspace.commands import parser_of
from workspace.errors import UserError, mistakes_in_one_line
from workspace.exact.manifest import read_json, write_json
from workspace.progress import say

LIST = Path("experiments/text/guidance.yaml")
DOCUMENT = Path("docs/results.md")
BOTH = "proxy_accuracy_kind_and_colour"
COLUMNS = {
    BOTH: "shape and colour",
    "proxy_accuracy": "shape",
    "proxy_accuracy_colour": "colour",
    "proxy_accuracy_background_colour": "background's colour",
    "proxy_accuracy_size": "size",
    "proxy_accuracy_pattern": "pattern",
}
GOAL = 0.6


def numbers_of(runs: Path, guidance: float) -> dict[str, float]:
    """The proxy's reading of the samples.

    Raises:
        UserError: they are not there.
    """
    path = runs / f"guidance-{guidance}" / "metrics" / "evaluate" / "metrics.json"
    if not path.is_file():
        raise UserError(f"{path} is missing: `make text` makes it")
    found = read_json(path)
    return {name: float(found[name]) for name in COLUMNS if name in found}


def verdicts(found: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    """Whether guided samples show the requested class in 60 %, and more often than unguided ones."""
    unguided = next(one for one in found if one["guidance"] == 1)["values"][BOTH]
    guided = max((one for one in found if one["guidance"] != 1), key=lambda one: one["values"][BOTH])[
        "values"
    ][BOTH]
    held = {True: "held", False: "not held"}
    return [
        {
            "text": f"shape and colour are right in at least {GOAL:.0%} of guided samples",
            "verdict": held[guided >= GOAL],
        },
        {"text": "they are right more often with guidance than without", "verdict": held[guided > unguided]},
    ]


def main() -> None:
    """The command line."""
    parser = parser_of("experiments.text", __doc__)
    parser.add_argument("--runs", type=Path, required=True, help="folder with guidance-G/metrics")
    parser.add_argument("--out", type=Path, required=True, help="path without extension")
    arguments = parser.parse_args()
    with mistakes_in_one_line():
        scales = yaml.safe_load(LIST.read_text(encoding="utf-8"))["guidance"]
        arms = [{"guidance": scale, "values": numbers_of(arguments.runs, scale)} for scale in scales]
    judged = verdicts(arms)
    rows = [
        [
            f"{arm['guidance']:g}",
            *(f"{arm['values'][name]:.1%}" if name in arm["values"] else "–" for name in COLUMNS),
        ]
        for arm in arms
    ]
    told = "".join(f"- {one['text']}: **{one['verdict']}**\n" for one in judged)
    text = f"{table(['guidance', *COLUMNS.values()], rows)}\n{told}"
    value = {"command": "make text", "commit": commit_of(arguments.runs), "arms": arms, "orderings": judged}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(arguments.out.with_suffix(".json"), value)
    place(text, arguments.out.name, DOCUMENT)
    say(
        f"{arguments.out}.json: {judged[0]['text']}: {judged[0]['verdict']}; {judged[1]['text']}: {judged[1]['verdict']}"
    )


if __name__ == "__main__":
    main()
