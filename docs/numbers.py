"""The demo's numbers in README.md and docs/results.md, from metrics/: python docs/numbers.py, after `make repro`.

A row `| what | VALUE | `STAGE: NAME` |` gets the value of NAME in metrics/STAGE/metrics.json, with the decimals that it has.
"""

import json
import re
from pathlib import Path

PAGES = ("README.md", "docs/results.md")
ROW = re.compile(r"^(\|.*\| )([0-9.]+)( \| `(\w+): (\w+)` \|)$", re.MULTILINE)


def rewritten(text: str, metrics: Path) -> str:
    """A page with the numbers of a run.

    Args:
        text: the page.
        metrics: the run's folder of numbers.
    """

    def row(found: re.Match[str]) -> str:
        number = json.loads((metrics / found[4] / "metrics.json").read_text(encoding="utf-8"))[found[5]]
        return f"{found[1]}{number:.{len(found[2].partition('.')[2])}f}{found[3]}"

    return ROW.sub(row, text)


def main() -> None:
    """Rewrite the pages."""
    root = Path(__file__).resolve().parents[1]
    for page in PAGES:
        text = (root / page).read_text(encoding="utf-8")
        (root / page).write_text(rewritten(text, root / "metrics"), encoding="utf-8")


if __name__ == "__main__":
    main()
