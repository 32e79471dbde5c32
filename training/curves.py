"""A run's curves: a tab-separated file that grows row by row, and the same numbers in DVCLive's format."""

import importlib.util
import math
import shutil
from pathlib import Path
from typing import Any

from workspace.progress import say


class Curves:
    """Rows of numbers by step in `path` (TSV: `step`, then one column per term).

    Args:
        path: the file; rows after step `start` are dropped, so that a resumed run repeats no step.
        start: number of finished steps.
    """

    def __init__(self, path: Path, start: int) -> None:
        self.path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        self.names = lines[0].split("\t")[1:] if lines else []
        rows = [line.split("\t") for line in lines[1:]]
        self.rows = [row for row in rows if len(row) == len(self.names) + 1 and int(row[0]) <= start]
        if lines:
            self._write()

    def _write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        rows = [["step", *self.names], *self.rows]
        self.path.write_text("".join(f"{chr(9).join(row)}\n" for row in rows), encoding="utf-8")

    def add(self, step: int, terms: dict[str, float]) -> None:
        """Append a row for the state after `step` steps.

        A run that was adopted under other settings may have other terms: a column is added, and a term without a value is nan.
        """
        new = [name for name in terms if name not in self.names]
        row = [str(step), *(f"{terms.get(name, math.nan):.8g}" for name in [*self.names, *new])]
        if new:
            self.names += new
            self.rows = [[*before, *["nan"] * len(new)] for before in self.rows] + [row]
            self._write()
            return
        self.rows.append(row)
        with self.path.open("a", encoding="utf-8") as file:
            file.write("\t".join(row) + "\n")

    def past(self) -> list[tuple[int, dict[str, float]]]:
        """The rows so far: (step, term → value)."""
        return [
            (int(row[0]), {name: float(value) for name, value in zip(self.names, row[1:], strict=True)})
            for row in self.rows
        ]


class LiveView:
    """The same numbers through DVCLive, whose folder layout `dvc plots` and the VS Code extension read.

    Writes nothing without dvclive, or in a Git repository without a commit, in which it cannot start.
    A resumed run's folder is rebuilt from the curves.
    """

    def __init__(self, folder: Path, train: Curves, validation: Curves) -> None:
        self._live: Any = None
        if importlib.util.find_spec("dvclive") is None:
            return
        from dvclive import Live
        from scmrepo.exceptions import SCMError

        if folder.exists():
            shutil.rmtree(folder)
        try:
            self._live = Live(str(folder), save_dvc_exp=False, dvcyaml=None, report=None)
        except SCMError as error:
            say(f"DVCLive writes no {folder.name}/ here ({error}); the curves are complete without it")
            return
        for step, terms in train.past():
            self.add(step, "train", terms)
        for step, terms in validation.past():
            self.add(step, "validation", terms)

    def add(self, step: int, split: str, terms: dict[str, float]) -> None:
        """Log the terms of one step."""
        if self._live is not None:
            self._live.step = step
            for name, value in terms.items():
                if not math.isnan(value):  # a term that this step does not have
                    self._live.log_metric(f"{split}/{name}", value)

    def close(self) -> None:
        """Write the summary."""
        if self._live is not None:
            self._live.end()
