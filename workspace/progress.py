"""A stage's output for the user: lines, bars, and the progress file that a dashboard reads."""

import re
import time
from collections.abc import Iterable, Iterator, Sized
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from workspace.exact.manifest import write_json

T = TypeVar("T")
FILE_EVERY_SECONDS = 1.0
LINE_EVERY_SECONDS = 15.0
_console = Console(stderr=True)


CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""What breaks a line, moves the cursor or turns the direction of text: a folder's name may have it."""


def say(text: str) -> None:
    r"""Print one line for the user (to stderr, like the bars); control characters of names are written as `\n`."""
    text = CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
    _console.print(text, markup=False, highlight=False, soft_wrap=True)


class Progress:
    """A bar with rate and time left, or occasional lines in a log file; and `progress.json` for a dashboard.

    Args:
        title: the name of the work.
        total: the total number of units.
        unit: the unit, in the plural ("images", "steps").
        file: where to write `{title, done, total, rate, seconds_left, shown}`, at most once per second.
        start: units finished before a resume, which do not count for the rate.
    """

    def __init__(self, title: str, total: int, unit: str, file: Path | None = None, start: int = 0) -> None:
        self.title, self.total, self.unit, self.file, self.start = title, total, unit, file, start
        self.done = start
        self.shown: dict[str, float] = {}
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
        )
        self._bar = Bar(*columns, console=_console, disable=not _console.is_terminal)
        self._task = self._bar.add_task(title, total=total, completed=start, note="")

    def __enter__(self) -> Self:
        """Start the clock and the bar."""
        self._began = self._last_file = self._last_line = time.monotonic()
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the bar; the last state stays in the file."""
        self._bar.stop()
        if error is None:
            self._write_file()
            if not _console.is_terminal:
                say(self._line())

    @property
    def rate(self) -> float:
        """Units per second since this process started."""
        return (self.done - self.start) / max(time.monotonic() - self._began, 1e-9)

    def update(self, done: int, **shown: float) -> None:
        """Set the number of finished units, and the numbers shown beside the bar."""
        self.done = done
        self.shown.update(shown)
        numbers = " ".join(f"{name} {value:.4g}" for name, value in self.shown.items())
        self._bar.update(self._task, completed=done, note=f"{self.rate:,.1f} {self.unit}/s {numbers}")
        now = time.monotonic()
        if now - self._last_file >= FILE_EVERY_SECONDS:
            self._last_file = now
            self._write_file()
        if not _console.is_terminal and now - self._last_line >= LINE_EVERY_SECONDS:
            self._last_line = now
            say(self._line())

    def _seconds_left(self) -> float:
        return (self.total - self.done) / max(self.rate, 1e-9) if self.done > self.start else 0.0

    def _line(self) -> str:
        numbers = "".join(f", {name} {value:.4g}" for name, value in self.shown.items())
        left = f", {self._seconds_left():,.0f} s left" if self.done < self.total else ""
        return f"{self.title}: {self.done:,}/{self.total:,} {self.unit}, {self.rate:,.1f}/s{left}{numbers}"

    def _write_file(self) -> None:
        if self.file is not None:
            state = {"title": self.title, "done": self.done, "total": self.total, "unit": self.unit}
            write_json(
                self.file,
                state | {"rate": self.rate, "seconds_left": self._seconds_left(), "shown": self.shown},
            )


def track(items: Iterable[T], title: str, unit: str = "items", total: int | None = None) -> Iterator[T]:
    """Yield the items while a `Progress` bar is shown."""
    if total is None:
        assert isinstance(items, Sized), "give total for items without a length"
        total = len(items)
    with Progress(title, total, unit) as progress:
        for done, item in enumerate(items, start=1):
            yield item
            progress.update(done)
