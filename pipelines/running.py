"""A stage as a Prefect task: `dvc repro --single-item` under a guard, with its output in the run's log and its progress shown."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from logging import Logger
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas import State
from prefect.runtime import flow_run
from prefect.states import Cancelled, Completed, Failed

from pipelines.dag import Step
from pipelines.guard import FORCE_SECONDS, GRACE_SECONDS, MOST_PATIENCE
from pipelines.home import BIN
from pipelines.progress import shown_as_artifact

GUARD = Path(__file__).with_name("guard.py")
UNRUN = ("is cached - skipping run", "didn't change, skipping")
"""DVC's messages for a stage whose outputs came from its cache or did not change."""

LINES_AT_ONCE, LINES_A_SECOND = 60, 5.0
"""Limits on the part of a stage's output that goes to the run's log; the file has all of it."""

TAIL = 12


class StoppedError(RuntimeError):
    """The run is being stopped, so no stage may start."""


@dataclass
class Running:
    """This process's guarded commands, which a cancelled run ends together.

    Attributes:
        ended: whether starting commands is no longer allowed.
        held: the workspace's lock while this run holds it; guards hold it too, so that the next run waits for them to finish.
        guards: the living guards.
    """

    ended: bool = False
    held: IO[str] | None = None
    guards: "set[subprocess.Popen[str]]" = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self, command: Sequence[str], root: Path) -> "subprocess.Popen[str]":
        """Start a command in a workspace, under a guard.

        Raises:
            StoppedError: the run is being stopped.
        """
        with self.lock:
            if self.ended:
                raise StoppedError("the run is being stopped")
            guard = subprocess.Popen(
                [sys.executable, str(GUARD), uuid4().hex, *command],
                cwd=root,
                env=os.environ | environment(root),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
                pass_fds=[self.held.fileno()] if self.held is not None else [],
            )
            self.guards.add(guard)
            return guard

    def end(self, guards: "Sequence[subprocess.Popen[str]]") -> None:
        """End commands and everything that they started, concurrently."""
        for guard in guards:
            assert guard.stdin is not None
            with suppress(OSError):
                guard.stdin.close()
        deadline = time.monotonic() + MOST_PATIENCE * (GRACE_SECONDS + 2 * FORCE_SECONDS) + 1
        for guard in guards:
            with suppress(subprocess.TimeoutExpired):
                guard.wait(max(0.1, deadline - time.monotonic()))
            guard.kill()
            guard.wait()
            self.guards.discard(guard)

    @contextmanager
    def all_ended(self) -> Iterator[None]:
        """End every command if the block ends with an exception or a signal."""
        self.ended = False
        try:
            yield
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End every command, and allow no new ones."""
        with self.lock:
            self.ended = True
            guards = list(self.guards)
        self.end(guards)


RUNNING = Running()


def environment(root: Path) -> dict[str, str]:
    """The environment of a stage's process: this interpreter's programs first, and the workspace's code."""
    return {
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(root.resolve()),
        "PYTHONUNBUFFERED": "1",
    }


@dataclass
class Output:
    """A stage's output: all of it to a file, and a readable amount to the run's log."""

    log: Logger
    file: Path
    allowance: float = LINES_AT_ONCE
    left_out: int = 0
    tail: list[str] = field(default_factory=list)
    clock: float = field(default_factory=time.monotonic)

    def add(self, line: str) -> None:
        """Add a line that has been written to the file."""
        now = time.monotonic()
        self.allowance = min(LINES_AT_ONCE, self.allowance + (now - self.clock) * LINES_A_SECOND)
        self.clock = now
        self.tail = [*self.tail[1 - TAIL :], line]
        if self.allowance < 1:
            self.left_out += 1
            return
        self.say_left_out()
        self.allowance -= 1
        self.log.info("%s", line)

    def say_left_out(self) -> None:
        """Log the number of lines that only the file has."""
        if self.left_out:
            self.log.info("… %s lines more in %s", f"{self.left_out:,}", self.file)
            self.left_out = 0

    @property
    def reason(self) -> str:
        """The last line that the stage itself wrote."""
        own = [line for line in self.tail if not line.startswith("ERROR: failed to reproduce")]
        return own[-1] if own else "no output"

    def close(self, failed: bool) -> None:
        """End the output; if the stage failed, log its last lines regardless of the limits."""
        unsaid = self.tail[-self.left_out :] if self.left_out else []
        self.say_left_out()
        for line in unsaid if failed else ():
            self.log.error("%s", line)


def log_file(root: Path, step: Step) -> Path:
    """The file with a stage's whole output in this run."""
    name = str(flow_run.get_name() or "run")
    return root / ".runs" / "logs" / name / f"{step.name}.log"


@task(cache_policy=NO_CACHE)
def run_stage(step: Step, force: bool = False, root: Path = Path()) -> State[Any]:
    """Bring one stage up to date through DVC; a fresh stage ends as Cached.

    Args:
        step: the stage.
        force: run it even if it is up to date.
        root: the workspace.
    """
    log = get_run_logger()
    if not force and not step.stale:
        return Completed(name="Cached", message=f"{step.name} is up to date")
    if force:
        forget_finished_runs(step, root)
    command = ["dvc", "repro", "--single-item", *(["--force"] if force else []), step.address]
    log.info("%s", " ".join(command))
    began = time.monotonic()
    try:
        status, ran, output = _run(command, step, root)
    except StoppedError as error:
        return Cancelled(message=str(error))
    if status and RUNNING.ended:
        return Cancelled(
            message=f"{step.name} was stopped with its run; it continues from its last checkpoint"
        )
    if status:
        again = f"`dvc repro {step.address}`, or the same run again, continues from where it was"
        message = f"{step.name} failed: {output.reason} ({again}; its output is in {output.file})"
        return Failed(message=message, data=RuntimeError(message))
    if not ran:
        return Completed(name="Cached", message=f"{step.name} was in DVC's cache")
    return Completed(message=f"{step.name} ran for {time.monotonic() - began:,.0f} s")


def _run(command: Sequence[str], step: Step, root: Path) -> tuple[int, bool, Output]:
    """Run a DVC command; returns its status, whether DVC ran the stage, and its output."""
    file = log_file(root, step)
    file.parent.mkdir(parents=True, exist_ok=True)
    output, ran, status = Output(get_run_logger(), file), True, 1
    guard = RUNNING.start(command, root)
    try:
        assert guard.stdout is not None
        with file.open("a", encoding="utf-8") as whole, shown_as_artifact(step, root):
            for line in guard.stdout:
                whole.write(line)
                whole.flush()
                if line.strip():
                    output.add(line.rstrip())
                    ran = ran and not any(words in line for words in UNRUN)
            status = guard.wait()
    finally:
        RUNNING.end([guard])
        output.close(failed=status != 0)
    return status, ran, output


def forget_finished_runs(step: Step, root: Path) -> None:
    """Drop the stage's finished runs, which it would publish again instead of running; unfinished runs are continued."""
    for done in root.glob(f".runs/{step.module}/*/done.json"):
        name = f"{step.module}/{done.parent.name}"
        subprocess.run(
            [sys.executable, "-m", "workspace.runs", "drop", name],
            cwd=root,
            env=os.environ | environment(root),
            check=True,
            capture_output=True,
        )
