"""The numbers in metrics/, now and after the last complete run.

A run that succeeds copies its numbers; a stopped run leaves the copy unchanged, so that the run that resumes it is still compared
with the last complete one. `reporting.compare` decides whether two numbers may be compared.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.dag import Step
from pipelines.running import environment

KEPT = Path(".runs/last_run")
UNFINISHED = "unfinished"
NORMAL_95 = 1.96
"""Standard errors to either side of a number that make a 95 % interval."""
NUMBERS, PROTOCOL = "metrics.json", "protocol.json"


@dataclass(frozen=True)
class Row:
    """A stage's number, now and before; None if missing.

    Attributes:
        comparable: whether both were measured in the same way.
        near: whether the number is within the 95 % interval of its value before, or the other way round.
    """

    stage: str
    name: str
    now: float | None
    before: float | None
    comparable: bool
    near: bool = False

    @property
    def remark(self) -> str:
        """What to think of the difference: "within the interval", or "" where nothing is known."""
        return "within the interval" if self.near and self.comparable and self.now != self.before else ""

    @property
    def told(self) -> str:
        """The difference with what to think of it."""
        return f"{self.difference} {self.remark}".strip()

    @property
    def difference(self) -> str:
        """The difference as text, with its sign."""
        if self.now is None or self.before is None:
            return ""
        if not self.comparable:
            return "measured differently: not comparable"
        return f"{self.now - self.before:+.5g}" if self.now != self.before else "="


def folders(steps: Sequence[Step]) -> dict[str, Path]:
    """Stage → its output folder with numbers."""
    return {step.name: out for step in steps for out in step.outs if "metrics" in out.parts}


def keep_before(steps: Sequence[Step], root: Path) -> None:
    """At the start of a run: copy the current numbers, unless the last run was not completed."""
    kept = root / KEPT
    if not (kept / UNFINISHED).exists():
        _copy(steps, root, kept)
        kept.mkdir(parents=True, exist_ok=True)
        (kept / UNFINISHED).touch()


def finished(root: Path) -> None:
    """Record that a run succeeded."""
    (root / KEPT / UNFINISHED).unlink(missing_ok=True)


def _copy(steps: Sequence[Step], root: Path, kept: Path) -> None:
    for stage, folder in folders(steps).items():
        for name in (NUMBERS, PROTOCOL):
            target = kept / stage / name
            if (root / folder / name).is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(root / folder / name, target)


def rows(steps: Sequence[Step], root: Path) -> list[Row]:
    """Every number of these stages, with its previous value."""
    found = []
    for stage, folder in folders(steps).items():
        old, new = root / KEPT / stage / NUMBERS, root / folder / NUMBERS
        before, now = read(old), read(new)
        comparable = before == now or _comparable(old, new, root)
        names = dict.fromkeys([*now, *before])
        found += [
            Row(stage, name, now.get(name), before.get(name), comparable, _near(name, now, before))
            for name in names
        ]
    return found


def _near(name: str, now: Mapping[str, float], before: Mapping[str, float]) -> bool:
    """Whether a number is within the other one's interval, as `reporting.compare` has it."""
    for one, other in ((now, before), (before, now)):
        low, high = one.get(f"{name}_low"), one.get(f"{name}_high")
        error = one.get(f"{name}_error")
        if error is not None and name in one:
            low, high = one[name] - NORMAL_95 * error, one[name] + NORMAL_95 * error
        if low is not None and high is not None and name in other and low <= other[name] <= high:
            return True
    return False


def read(path: Path) -> Mapping[str, float]:
    """Numbers by name; empty if there is no file."""
    value = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return {name: number for name, number in value.items() if isinstance(number, (int, float))}


def _comparable(old: Path, new: Path, root: Path) -> bool:
    """Whether `python -m reporting.compare OLD NEW` accepts the numbers, if they have a protocol."""
    if not (old.with_name(PROTOCOL).is_file() and new.with_name(PROTOCOL).is_file()):
        return True
    done = subprocess.run(
        [sys.executable, "-m", "reporting.compare", str(old.resolve()), str(new.resolve())],
        cwd=root,
        env=os.environ | environment(root),
        capture_output=True,
        check=False,
    )
    return done.returncode == 0
