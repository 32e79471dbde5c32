"""docs/results/hostile.json and the tables of docs/robustness.md, from the outcomes that the test wrote down.

python -m tests.hostile.render            run the test, write both
python -m tests.hostile.render --table    the tables again, from hostile.json alone
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

from tests.hostile.cases import CASES
from tests.hostile.results import RESULTS, ROOT, write_results

PAGE, RESULT = ROOT / "docs" / "robustness.md", RESULTS / "hostile.json"
MARK = "<!-- rendered by `make hostile`; what stands below is not written by hand -->\n"


def outcomes() -> tuple[dict[str, str], int]:
    """Run the test: what came of each case, and pytest's exit status."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "outcomes.json")
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "tests/hostile/test_hostile.py", "-k", "test_hostile and not in_step"],
            cwd=ROOT, env=os.environ | {"HOSTILE_RESULTS": str(path)}, check=False,
        )  # fmt: skip
        found: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    return found, done.returncode


def rows(found: dict[str, str]) -> list[dict[str, Any]]:
    """The cases as hostile.json has them."""
    return [
        {
            "name": case.name,
            "group": case.group,
            "made": case.made,
            "expected": case.expected,
            "got": found.get(case.name, "not tried"),
            "ok": case.expected in found.get(case.name, ""),
        }
        for case in CASES
    ]


def tables(cases: Sequence[dict[str, Any]]) -> str:
    """A Markdown table for each group."""
    parts = [f"{len(cases)} cases, {sum(case['ok'] for case in cases)} as expected.\n"]
    for group, members in groupby(cases, key=lambda case: case["group"]):
        lines = [
            f"### {group.capitalize()}",
            "",
            "| case | how it is made | what came of it | as expected |",
            "|---|---|---|---|",
        ]
        lines += [
            f"| {cell(case['name'])} | {cell(case['made'])} | {cell(case['got'])} | {'yes' if case['ok'] else 'NO'} |"
            for case in members
        ]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def cell(text: str) -> str:
    """Text that neither ends a cell nor is markup."""
    text = " ".join(text.split())
    for sign, safe in (
        ("\\", "\\\\"),
        ("|", "\\|"),
        ("<", "&lt;"),
        ("`", "\\`"),
        ("*", "\\*"),
        ("_", "\\_"),
        ("$", "\\$"),
        ("[", "\\["),
    ):
        text = text.replace(sign, safe)
    return text


def page(cases: Sequence[dict[str, Any]]) -> str:
    """docs/robustness.md: what stands above the mark is kept."""
    above, _, _ = PAGE.read_text(encoding="utf-8").partition(MARK)
    return f"{above}{MARK}\n{tables(cases)}"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile.render", description=__doc__)
    parser.add_argument("--table", action="store_true", help="render the page from hostile.json, try nothing")
    status = 0
    if not parser.parse_args().table:
        found, status = outcomes()
        write_results(RESULT.name, {"cases": rows(found)}, "make hostile")
    PAGE.write_text(page(json.loads(RESULT.read_text(encoding="utf-8"))["cases"]), encoding="utf-8")
    sys.exit(status)


if __name__ == "__main__":
    main()
