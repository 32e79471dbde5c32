"""docs/results/field.json and the table of docs/robustness.md, from what came of each row of the field suite.

python -m tests.field.render            try all rows, write both
python -m tests.field.render --table    the page again, from field.json alone
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from tests.field.conftest import RESULTS as OUTCOMES
from tests.field.rows import ROWS
from tests.hostile.render import PAGE, cell
from tests.hostile.results import RESULTS, ROOT, write_results

RESULT = RESULTS / "field.json"
BEGIN = "<!-- field: rendered by `make field` from docs/results/field.json -->\n"
END = "<!-- field: end -->\n"


def outcomes() -> tuple[dict[str, str], int]:
    """Try all rows: what came of each, and pytest's exit status."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "tests/field", "-k", "test_row"],
            cwd=ROOT, env=os.environ | {OUTCOMES: folder}, check=False,
        )  # fmt: skip
        found: dict[str, str] = {}
        for path in sorted(Path(folder).glob("*.json")):
            found |= json.loads(path.read_text(encoding="utf-8"))
    return found, done.returncode


def recorded(found: dict[str, str]) -> list[dict[str, Any]]:
    """The rows as field.json has them."""
    return [
        {
            "symptom": row.symptom,
            "area": row.area,
            "made": row.made,
            "expected": row.expected,
            "got": found.get(row.symptom, "not tried"),
            "ok": row.expected in found.get(row.symptom, ""),
        }
        for row in ROWS
    ]


def tables(rows: Sequence[dict[str, Any]]) -> str:
    """One Markdown table per area."""
    parts = [f"{len(rows)} symptoms, {sum(row['ok'] for row in rows)} handled as expected.\n"]
    for area, members in groupby(rows, key=lambda row: row["area"]):
        lines = [f"### {area}", "", "| symptom | how it is made | what happens now | |", "|---|---|---|---|"]
        lines += [
            f"| {cell(row['symptom'])} | {cell(row['made'])} | {cell(row['got'])} | {'ok' if row['ok'] else 'NOT OK'} |"
            for row in members
        ]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def page(rows: Sequence[dict[str, Any]]) -> str:
    """docs/robustness.md: everything outside the two marks is kept."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{tables(rows)}\n{END}{after}"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.field.render", description=__doc__)
    parser.add_argument("--table", action="store_true", help="render the page from field.json, try nothing")
    status = 0
    if not parser.parse_args().table:
        found, status = outcomes()
        write_results(RESULT.name, {"rows": recorded(found)}, "make field")
    PAGE.write_text(page(json.loads(RESULT.read_text(encoding="utf-8"))["rows"]), encoding="utf-8")
    sys.exit(status)


if __name__ == "__main__":
    main()
