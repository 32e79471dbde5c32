"""Run every row, one after the other, each in a process of its own, then render the tables (`make bench`).

python -m benchmarks.run                 all rows
python -m benchmarks.run --only 1 4      these rows
"""

import subprocess
import sys
import time
from pathlib import Path

from workspace.commands import parser_of
from workspace.progress import say

HERE = Path(__file__).resolve().parent


def row_modules(only: list[int]) -> list[str]:
    """Names of the rows' modules, in order; all of them where `only` is empty."""
    names = sorted(path.stem for path in HERE.glob("row_*.py"))
    return [name for name in names if not only or int(name.split("_")[1]) in only]


def main() -> None:
    """Exit status 1 where a row's process failed; a missed bar is not a failure, the tables tell it."""
    parser = parser_of("benchmarks.run", __doc__)
    parser.add_argument("--only", type=int, nargs="+", default=[], help="numbers of the rows to run")
    failed, began = [], time.monotonic()
    for name in row_modules(parser.parse_args().only):
        started = time.monotonic()
        if subprocess.run(
            [sys.executable, "-m", f"benchmarks.{name}"], check=False, cwd=HERE.parent
        ).returncode:
            failed.append(name)
        say(f"{name}: {time.monotonic() - started:,.0f} s")
    subprocess.run([sys.executable, "-m", "benchmarks.table"], check=True, cwd=HERE.parent)
    say(f"all rows: {time.monotonic() - began:,.0f} s")
    if failed:
        say(f"failed: {', '.join(failed)}")
        sys.exit(1)


if __name__ == "__main__":
    main()
