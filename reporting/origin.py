"""Where the run on the page came from, as each stage wrote it into its run.json (workflow/origin.py)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reporting.numbers import StageNumbers

SHORT = 12
"""Hex digits of a revision or fingerprint."""


@dataclass(frozen=True)
class OriginRow:
    """A stage: when it ran, on which revision, and which code differed from it (names, in words)."""

    stage: str
    date: str
    revision: str
    changed: str


@dataclass(frozen=True)
class Origin:
    """Where a run came from.

    Attributes:
        preset: the nearest.
        settings: those that differ from it, `name: value`.
        data: source and fingerprint.
        again: a line for the shell.
        rows: of the stages.
    """

    preset: str
    settings: Sequence[str]
    data: str
    again: str
    rows: Sequence[OriginRow]

    @property
    def date(self) -> str:
        """The last stage's date."""
        return max(row.date for row in self.rows)

    @property
    def revision(self) -> str:
        """The last stage's revision."""
        return max(self.rows, key=lambda row: row.date).revision


def read_origin(numbers: Mapping[str, StageNumbers], stages: Sequence[str]) -> Origin | None:
    """From the stages that wrote it, in this order; None where an older version made all of them.

    Settings, data and the line are those of the stage that ran last.
    """
    found = {
        name: numbers[name].run.origin  # type: ignore[union-attr]
        for name in stages
        if name in numbers and numbers[name].run is not None and numbers[name].run.origin  # type: ignore[union-attr]
    }
    if not found:
        return None
    last: Mapping[str, Any] = max(found.values(), key=lambda origin: str(origin["date"]))
    fingerprint = str(last["data"]["shards"] or "unknown")[:SHORT]
    return Origin(
        preset=last["preset"],
        settings=[f"{name}: {value}" for name, value in last["settings"].items()],
        data=f"{last['data']['source']}, shards {fingerprint}",
        again=last["again"],
        rows=[_row(name, origin) for name, origin in found.items()],
    )


def _row(stage: str, origin: Mapping[str, Any]) -> OriginRow:
    return OriginRow(
        stage, origin["date"], str(origin["revision"] or "no Git")[:SHORT], ", ".join(origin["changed"])
    )
