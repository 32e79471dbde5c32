"""Compare two sets of numbers; sets with different protocols are refused.

    python -m reporting.compare A/metrics.json B/metrics.json   two files, each with its protocol.json in the same folder
    python -m reporting.compare --rev HEAD~1                    metrics/ of a git revision with the current ones

Numbers with another reference, count, resize, features or estimator are refused with a list of the differences; different
settings, seeds and versions are listed under the table. A difference within one side's 95 % interval is neither better
nor worse. The exit status is 1 if anything was refused.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.protocol import NAME as PROTOCOL
from evaluation.protocol import Protocol
from reporting.numbers import meaning, read_values, shown, with_interval, within_interval, without_ends
from workspace.commands import parser_of
from workspace.errors import UserError, mistakes_in_one_line

METRICS = Path("metrics")
NUMBERS = "metrics.json"


@dataclass(frozen=True)
class Measured:
    """Numbers by name, and their protocol (None if the stage wrote none)."""

    values: Mapping[str, float]
    protocol: Protocol | None

    @classmethod
    def read(cls, path: Path) -> "Measured":
        """Read a metrics file and the protocol.json in the same folder.

        Raises:
            UserError: the file is missing, or does not hold numbers by name.
        """
        values = read_values(path)
        protocol = Protocol.read(path.parent) if (path.parent / PROTOCOL).is_file() else None
        return cls(values, protocol)


@dataclass(frozen=True)
class Comparison:
    """Two comparable sets of numbers: rows of a table, and other differences."""

    rows: list[tuple[str, str, str, str]]
    notes: list[str]

    def text(self, names: tuple[str, str]) -> str:
        """The table, with the two sides' names as its head."""
        table = [("number", *names, "difference"), *self.rows]
        widths = [max(len(row[column]) for row in table) for column in range(3)]
        lines = [
            f"{row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:>{widths[2]}}  {row[3]}".rstrip()
            for row in table
        ]
        return "\n".join([*lines, *(f"  also differs: {note}" for note in self.notes)]) + "\n"


def conflicts(a: Measured, b: Measured) -> list[str]:
    """Why the shared numbers may not be compared; empty if they may."""
    if a.protocol is None or b.protocol is None:
        return [] if a.protocol is b.protocol else [f"only one of them has a {PROTOCOL}"]
    return a.protocol.conflicts(b.protocol, frozenset(a.values.keys() & b.values.keys()))


def compare(a: Measured, b: Measured) -> Comparison:
    """The table of two sets of numbers without conflicts."""
    names = list(dict.fromkeys([*without_ends(a.values), *without_ends(b.values)]))
    notes = a.protocol.differences(b.protocol) if a.protocol is not None and b.protocol is not None else []
    return Comparison([_row(name, a.values, b.values) for name in names], notes)


def _row(name: str, a: Mapping[str, float], b: Mapping[str, float]) -> tuple[str, str, str, str]:
    left, right = (with_interval(name, side) if name in side else "–" for side in (a, b))
    if name not in a or name not in b:
        return name, left, right, ""
    difference = b[name] - a[name]
    better = meaning(name).better
    verdict = ""
    if difference and within_interval(name, a, b):
        verdict = " within the interval"
    elif better and difference:
        verdict = " better" if (difference > 0) == (better == "higher") else " worse"
    return name, left, right, f"{'+' if difference > 0 else ''}{shown(difference)}{verdict}"


def compare_files(a: Path, b: Path) -> str:
    """The text of `compare A B`.

    Raises:
        UserError: the numbers may not be compared.
    """
    left, right = Measured.read(a), Measured.read(b)
    reasons = conflicts(left, right)
    if reasons:
        raise UserError("\n  ".join([f"{a} and {b} may not be compared:", *reasons]))
    return compare(left, right).text((str(a), str(b)))


def compare_revision(revision: str, metrics: Path) -> tuple[str, list[str]]:
    """The text of `compare --rev`, stage by stage, and the names of stages that were refused.

    Raises:
        UserError: git has no such revision, or it holds no numbers.
    """
    parts, refused = [], []
    for stage in _stages_at(revision, metrics):
        now = metrics / stage / NUMBERS
        if not now.is_file():
            parts.append(f"{stage}: no numbers now\n")
            continue
        then, present = _measured_at(revision, metrics / stage), Measured.read(now)
        reasons = conflicts(then, present)
        if reasons:
            refused.append(stage)
            parts.append("\n  ".join([f"{stage} may not be compared:", *reasons]) + "\n")
        else:
            parts.append(f"{stage}\n{compare(then, present).text((revision, 'now'))}")
    return "\n".join(parts), refused


def _stages_at(revision: str, metrics: Path) -> list[str]:
    """Names of the stages with numbers in a revision."""
    _git("rev-parse", "--git-dir")  # says so outside of a repository
    known = ["git", "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}"]
    if subprocess.run(known, capture_output=True, check=False).returncode:
        raise UserError(
            f"{revision} is not a revision of this repository; expected a commit, tag or branch (in a shallow clone, "
            "`git fetch --unshallow` first)"
        )
    names = _git(
        "ls-tree", "-r", "--name-only", "-z", "--end-of-options", revision, f"{metrics.as_posix()}/"
    ).split("\0")
    stages = sorted({Path(name).parent.name for name in names if Path(name).name == NUMBERS})
    if not stages:
        raise UserError(
            f"revision {revision} holds no numbers below {metrics}: expected {metrics}/STAGE/{NUMBERS}"
        )
    return stages


def _measured_at(revision: str, folder: Path) -> Measured:
    """A revision's numbers in metrics/STAGE."""
    tracked = _git(
        "ls-tree", "--name-only", "-z", "--end-of-options", revision, f"{folder.as_posix()}/"
    ).split("\0")
    with tempfile.TemporaryDirectory() as name:
        for path in tracked:
            if Path(path).name in (NUMBERS, PROTOCOL):
                text = _git("show", "--end-of-options", f"{revision}:./{path}")
                (Path(name) / Path(path).name).write_text(text, encoding="utf-8")
        return Measured.read(Path(name) / NUMBERS)


def _git(*arguments: str) -> str:
    """The output of a git command.

    Raises:
        UserError: git fails; with the first line of its message.
    """
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        line = (done.stderr.strip().splitlines() or ["no reason given"])[0]
        raise UserError(f"git {arguments[0]} failed: {line}")
    return done.stdout


def main(words: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = parser_of("reporting.compare", __doc__)
    parser.add_argument("files", type=Path, nargs="*", metavar="FILE", help="two metrics.json files")
    parser.add_argument("--rev", help="compare metrics/ of this git revision with the current ones")
    parser.add_argument(
        "--metrics", type=Path, default=METRICS, help="with --rev: the folder of metrics (metrics)"
    )
    arguments = parser.parse_args(words)
    if len(arguments.files) != (2 if arguments.rev is None else 0):
        parser.error("expected two metrics.json files, or --rev REVISION")
    sys.exit(_compare(arguments))


def _compare(arguments: argparse.Namespace) -> int:
    """Write the comparison to stdout; returns the exit status."""
    with mistakes_in_one_line():
        if arguments.rev is None:
            text, refused = compare_files(*arguments.files), list[str]()
        else:
            text, refused = compare_revision(arguments.rev, arguments.metrics)
        sys.stdout.write(text)
    return 1 if refused else 0


if __name__ == "__main__":
    main()
