"""Shows a stage's progress in the dashboard: from `progress.json` in its run folder to a progress artifact."""

import contextvars
import glob
import html
import json
import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from prefect import get_run_logger
from prefect.artifacts import create_progress_artifact, update_progress_artifact

from pipelines.dag import Step

EVERY_SECONDS = 2.0


def key(*parts: str) -> str:
    """An artifact's key: lower-case letters, digits and dashes, as Prefect requires."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(parts).lower()).strip("-")


def newest(root: Path, step: Step, since: float) -> dict[str, Any] | None:
    """The content of the stage's newest progress file, if written after `since` (seconds since the epoch)."""
    read = []
    # not Path.glob, which raises if a run's folder disappears meanwhile
    for name in glob.glob(f"{glob.escape(str(root / '.runs' / step.module))}/*/progress.json"):
        with suppress(FileNotFoundError), open(name, encoding="utf-8") as file:
            read.append((os.fstat(file.fileno()).st_mtime, file.read()))
    times = [found for found in read if found[0] > since]
    if not times:
        return None
    value: dict[str, Any] = json.loads(max(times)[1])
    return value


def described(state: dict[str, Any]) -> str:
    """A progress file as one line of Markdown: `training: 12/24 steps, 46/s, 1 s left; loss 4.8`."""
    left = f", {state['seconds_left']:,.0f} s left" if state["done"] < state["total"] else ""
    numbers = ", ".join(f"{name.replace('_', ' ')} {value:,.4g}" for name, value in state["shown"].items())
    rate = f"{state['done']:,}/{state['total']:,} {state['unit']}, {state['rate']:,.1f}/s{left}"
    return html.escape(f"{state['title']}: {rate}{'; ' if numbers else ''}{numbers}")


@contextmanager
def shown_as_artifact(step: Step, root: Path) -> Iterator[None]:
    """Within the block a thread keeps this task's progress artifact up to date with the stage."""
    stop, mover = threading.Event(), _Mover(step, root)

    def work() -> None:
        while not stop.wait(EVERY_SECONDS):
            mover.move()

    thread = threading.Thread(target=contextvars.copy_context().run, args=(work,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=EVERY_SECONDS)
    mover.move()


class _Mover:
    """Creates the artifact when there is progress to show, and updates it when that changes."""

    def __init__(self, step: Step, root: Path) -> None:
        self.step, self.root, self.since = step, root, time.time()
        self.artifact: Any = None
        self.last: dict[str, Any] | None = None
        self.log = get_run_logger()

    def move(self) -> None:
        """Show new progress; an unreachable server is logged and does not stop the training."""
        state = newest(self.root, self.step, self.since)
        if state is None or state == self.last:
            return
        percent = min(100.0, 100 * state["done"] / max(state["total"], 1))
        try:
            if self.artifact is None:
                self.artifact = create_progress_artifact(
                    percent, key=key("progress", self.step.name), description=described(state)
                )
            else:
                update_progress_artifact(self.artifact, percent, described(state))
        except Exception as error:
            self.log.warning("the progress artifact could not be updated: %s", error)
        self.last = state
