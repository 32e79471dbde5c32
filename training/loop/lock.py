"""The lock on the folder of a training run."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from workspace.errors import UserError

LINGERING_SECONDS = 60.0
"""Seconds that a training waits for a worker of a killed driver to stop writing, before it gives up."""


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the lock on a run's folder, because a worker may outlive its killed driver for a moment.

    Raises:
        UserError: another process still holds the lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + LINGERING_SECONDS
    with (folder / "writing.lock").open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise UserError(f"another process trains in {folder}: wait for it, or stop it") from error
                time.sleep(0.1)
        yield
