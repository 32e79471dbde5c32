"""A sweep's table: arms in rows, the settings in which they differ and their numbers in columns, the best of each marked.

    python -m reporting.sweep .runs/sweep/results.json --out .runs/sweep

writes table.txt (80 columns, the most important numbers), table.md and index.html (all numbers that say which is better).
"""

import html
import re
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reporting.markdown import table as table_of
from reporting.numbers import by_meaning, interval_of, meaning, shown
from workspace.commands import parser_of
from workspace.errors import UserError
from workspace.exact.manifest import atomic_path, read_json
from workspace.progress import say

WIDTH = 80
"""Columns of the shell."""
BEST, NEAR, STATE = "*", "≈", "state"
"""Marks of the best arm, and of those within the best one's 95 % interval."""
SCORING = ("evaluate", "reconstruct", "train_stackformer", "train_mqvae")
"""Stages whose numbers come first."""


@dataclass(frozen=True)
class ArmRow:
    """An arm: its settings (key → text), how it ended, and its numbers (`stage/number`)."""

    settings: Mapping[str, str]
    state: str
    numbers: Mapping[str, float]


@dataclass(frozen=True)
class SweepTable:
    """A sweep's arms with what they differ in.

    Attributes:
        keys: settings in which arms differ.
        names: numbers that say which arm is better, the most important first.
        rows: the arms.
    """

    keys: Sequence[str]
    names: Sequence[str]
    rows: Sequence[ArmRow]

    def mark(self, row: ArmRow, name: str) -> str:
        """`*` for the best arm of a number, `≈` within its interval, "" else."""
        values = [other.numbers[name] for other in self.rows if name in other.numbers]
        if name not in row.numbers or len(values) < 2 or min(values) == max(values):
            return ""
        best = max(values) if _better(name) == "higher" else min(values)
        if row.numbers[name] == best:
            return BEST
        leader = next(other for other in self.rows if other.numbers.get(name) == best)
        ends = interval_of(name, leader.numbers)
        return NEAR if ends is not None and ends[0] <= row.numbers[name] <= ends[1] else ""

    def cells(self, row: ArmRow, names: Sequence[str]) -> list[str]:
        """A row's texts: settings, then numbers with their marks, or how it ended where it failed or there are no numbers."""
        settings = [row.settings.get(key, "–") for key in self.keys]
        if not names:
            return [*settings, row.state.lower()]
        if not row.numbers:
            return [*settings, row.state.lower(), *[""] * (len(names) - 1)]
        texts = [
            f"{shown(row.numbers[name])}{self.mark(row, name)}" if name in row.numbers else "–"
            for name in names
        ]
        return settings + texts


def _better(name: str) -> str:
    return meaning(name.rpartition("/")[2]).better


def read_sweep(path: Path) -> SweepTable:
    """The table of a sweep's results.json.

    Raises:
        UserError: no such file, or not one that a sweep wrote.
    """
    results = read_json(path)
    if not isinstance(results, list) or not all(
        isinstance(result, dict) and result.keys() >= {"settings", "state", "numbers"} for result in results
    ):
        raise UserError(
            f"{path} is not the results.json of a sweep; expected a list of arms with their numbers"
        )
    rows = [_row(result) for result in results]
    keys = list(dict.fromkeys(key for row in rows for key in row.settings))
    differing = [key for key in keys if len({row.settings.get(key) for row in rows}) > 1] or keys[:1]
    return SweepTable(differing, _names(rows), rows)


def _row(result: Mapping[str, Any]) -> ArmRow:
    pairs = (text.partition("=") for text in result["settings"])
    return ArmRow({key: value for key, _, value in pairs}, result["state"], result["numbers"])


def _names(rows: Sequence[ArmRow]) -> list[str]:
    """Numbers in which some arms differ and of which one end is better: by stage, then by meaning."""
    names = list(dict.fromkeys(name for row in rows for name in row.numbers))
    told = [
        name
        for name in names
        if _better(name)
        and "per_second" not in name
        and (len(rows) == 1 or len({row.numbers.get(name) for row in rows}) > 1)
    ]
    order = list(by_meaning({name.rpartition("/")[2]: 0.0 for name in told}))

    def place(name: str) -> tuple[int, int]:
        stage, _, number = name.rpartition("/")
        return (SCORING.index(stage) if stage in SCORING else len(SCORING), order.index(number))

    return sorted(told, key=place)


def shell(table: SweepTable, whole: Path) -> str:
    """The table within 80 columns: as many numbers as fit, headed by numbers that are explained below; `whole` has the rest."""
    heads = [key.rpartition(".")[2] for key in table.keys]
    for count in range(len(table.names), -1, -1):
        names = list(table.names[:count])
        columns = [*heads, *([f"({number})" for number in range(1, count + 1)] or [STATE])]
        cells = [columns, *(table.cells(row, names) for row in table.rows)]
        widths = [max(len(line[place]) for line in cells) for place in range(len(columns))]
        if sum(widths) + 2 * (len(widths) - 1) <= WIDTH:
            break
    else:  # settings alone are wider than the shell
        widths = [min(width, WIDTH // len(columns) - 2) for width in widths]
    lines = [
        "  ".join(cell[:width].ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    ]
    lines.insert(1, "-" * min(WIDTH, sum(widths) + 2 * (len(widths) - 1)))
    told = [f"({number}) {name}, {_better(name)} is better" for number, name in enumerate(names, 1)]
    left = len(table.names) - len(names)
    told += [f"{BEST} best   {NEAR} within the best one's 95 % interval"] if told else []
    told += [f"{left} more numbers in {whole}"] if left else []
    wrapped = [part for line in told for part in textwrap.wrap(line, WIDTH, subsequent_indent="    ")]
    return "\n".join([*lines, "", *wrapped]) + "\n"


def markdown(table: SweepTable) -> str:
    """The whole table in Markdown."""

    heads = [*table.keys, *(table.names or [STATE])]
    lines = [
        [_escaped(cell) for cell in cells]
        for cells in (heads, *(table.cells(row, table.names) for row in table.rows))
    ]
    return f"{table_of(lines[0], lines[1:])}\n`{BEST}` best, `{NEAR}` within the best one's 95 % interval.\n"


def _escaped(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]<>|#])", r"\\\1", text)


STYLE = """:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { margin: 2rem auto; max-width: 75rem; padding: 0 1rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; }
th, td { padding: .3rem .7rem; text-align: left; white-space: nowrap; }
th.number, td.number { text-align: right; font-variant-numeric: tabular-nums; }
tr + tr { border-top: 1px solid color-mix(in srgb, currentColor 20%, transparent); }
.best { font-weight: 700; }
small { opacity: .7; }"""


def page(table: SweepTable) -> str:
    """The whole table as a page of its own, which asks for nothing else."""
    heads = "".join(f'<th scope="col">{html.escape(key)}</th>' for key in table.keys) + "".join(
        f'<th scope="col" class="number">{html.escape(name)}<br><small>{_better(name)} is better</small></th>'
        for name in table.names
    )
    heads += "" if table.names else f'<th scope="col" class="number">{STATE}</th>'
    body = "".join(f"<tr>{_html_row(table, row)}</tr>\n" for row in table.rows)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Sweep</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<style>{STYLE}</style></head><body><main><h1>Sweep</h1><p>{len(table.rows)} arms. {BEST} best, {NEAR} within the best "
        f'one\'s 95 % interval.</p><div class="scroll" tabindex="0" role="group" aria-label="Arms and their numbers"><table>'
        f"<thead><tr>{heads}</tr></thead><tbody>\n{body}</tbody></table></div></main></body></html>\n"
    )


def _html_row(table: SweepTable, row: ArmRow) -> str:
    cells = table.cells(row, table.names)
    keys = "".join(f'<th scope="row">{html.escape(cell)}</th>' for cell in cells[: len(table.keys)])
    return keys + "".join(
        f'<td class="number{" best" if cell.endswith(BEST) else ""}">{html.escape(cell)}</td>'
        for cell in cells[len(table.keys) :]
    )


def main() -> None:
    """The command line."""
    parser = parser_of("reporting.sweep", "The table of a sweep: text, Markdown and a page.")
    parser.add_argument("results", type=Path, help=".runs/sweep/results.json")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where the three files go")
    asked = parser.parse_args()
    try:
        table = read_sweep(asked.results)
    except UserError as error:
        sys.exit(str(error))
    for name, text in (
        ("table.txt", shell(table, asked.out / "index.html")),
        ("table.md", markdown(table)),
        ("index.html", page(table)),
    ):
        with atomic_path(asked.out / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    say(f"{len(table.rows)} arms → {asked.out / 'index.html'}")


if __name__ == "__main__":
    main()
