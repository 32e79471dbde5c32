"""Phases one after the other, each in a process group of its own that ends when its time is up, whatever it does.

A phase is a program that works through items and notes each (`benchmarks.gpu.phase`). It is started again for the items that are
left where it crashed, hung in one, or asked for it (a CUDA error spoils a process for good). Standard library alone.
"""

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu.notes import Notes, tell

AGAIN = 75
"""Exit status with which a phase asks to be started again."""
STARTS = 12
"""Times that a phase is started at most."""
POLL_SECONDS = 0.1
GRACE_SECONDS = 2.0
"""From the asking to the killing."""
TIME_UP = "its phase's time was up"
TAIL = 4000
"""Characters of the log that explain a crash."""


@dataclass(frozen=True)
class Phase:
    """One phase.

    Attributes:
        name: also of its file.
        until: share of the whole time by which it must be over; what it leaves is the next one's.
        command: what is run; the deadline is appended (`--deadline EPOCH`).
        beside: commands that run from its start on, for their side effects (a warm compile cache).
        ends_others: whether what runs beside is ended with it; the last phase ends it in any case.
    """

    name: str
    until: float
    command: Sequence[str]
    beside: Sequence[Sequence[str]] = ()
    ends_others: bool = True


@dataclass(frozen=True)
class Kit:
    """A run's output folder, working folder and deadline.

    Attributes:
        out: results.
        work: folder that the phases start in; everything else.
        began: seconds since the epoch.
        seconds: of the whole run.
        environment: of the phases.
    """

    out: Path
    work: Path
    began: float
    seconds: float
    environment: dict[str, str]

    @property
    def log(self) -> Path:
        """Everything that the phases said."""
        return self.out / "log.txt"

    def run(self, phases: Sequence[Phase]) -> list[dict[str, Any]]:
        """Run them all; returns each one's outcome."""
        helpers: list[subprocess.Popen[bytes]] = []
        try:
            return [self._run(phase, helpers) for phase in phases]
        finally:
            end_all(helpers)

    def _run(self, phase: Phase, helpers: "list[subprocess.Popen[bytes]]") -> dict[str, Any]:
        notes, began = Notes(self.out, phase.name), time.time()
        deadline = self.began + phase.until * self.seconds
        tell(f"{phase.name}: until {time.strftime('%H:%M:%S', time.localtime(deadline))}")
        helpers += [self._start(command, Path(os.devnull)) for command in phase.beside]
        starts = self._until_done(phase, notes, deadline)
        if phase.ends_others:
            end_all(helpers)
        items = notes.read()["items"]
        failed = [name for name, found in items.items() if not found["ok"]]
        tell(f"{phase.name}: {len(items) - len(failed)} of {len(items)} items went well")
        seconds = round(time.time() - began, 1)
        return {
            "phase": phase.name,
            "seconds": seconds,
            "starts": starts,
            "items": len(items),
            "failed": failed,
        }

    def _until_done(self, phase: Phase, notes: Notes, deadline: float) -> int:
        """Start the phase until nothing is left of it, or of its time; how often it was started."""
        for starts in range(1, STARTS + 1):
            if time.time() >= deadline:
                if starts == 1:
                    notes.end("start", {"error": "no time was left"}, ok=False)
                return starts - 1
            process = self._start([*phase.command, "--deadline", str(deadline)], self.log)
            why = self._watched(process, notes, deadline)
            item = notes.interrupted(why) if why else None
            asked = process.poll() == AGAIN
            if why == TIME_UP and notes.read()["items"]:
                return starts
            if why and item is None and not asked:  # it did not come as far as an item
                notes.end("start", {"error": f"{why}\n{self._tail()}"}, ok=False)
                return starts
            if item is None and not asked:
                return starts
            tell(f"{phase.name}: {item or 'an item'} failed: started again for what is left")
        return STARTS

    def _watched(self, process: "subprocess.Popen[bytes]", notes: Notes, deadline: float) -> str:
        """Wait for a process; why it did not end well, or ""."""
        try:
            while process.poll() is None:
                if time.time() > deadline:
                    return TIME_UP
                if notes.overdue():
                    return "it took longer than its limit"
                time.sleep(POLL_SECONDS)
        finally:
            end_group(process)  # with what it left behind, and when this program is stopped
        code = process.returncode
        return "" if code in (0, AGAIN) else f"its process ended with status {code}\n{self._tail()}"

    def _start(self, command: Sequence[str], log: Path) -> "subprocess.Popen[bytes]":
        with log.open("ab") as file:
            return subprocess.Popen(
                list(command),
                cwd=self.work,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _tail(self) -> str:
        text = self.log.read_bytes()[-TAIL:] if self.log.is_file() else b""
        return text.decode(errors="replace")


def end_all(processes: "list[subprocess.Popen[bytes]]") -> None:
    """End them, each with all that it started."""
    while processes:
        end_group(processes.pop())


def end_group(process: "subprocess.Popen[bytes]") -> None:
    """End a process and all that it started; a process that the kernel does not give back is not waited for."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except (ProcessLookupError, PermissionError):
            break
        deadline = time.time() + GRACE_SECONDS
        while time.time() < deadline and process.poll() is None:
            time.sleep(POLL_SECONDS / 2)
    process.poll()
