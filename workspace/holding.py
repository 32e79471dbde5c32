"""Locks on runs: one living process at a time works in a run and holds its lock; starting one removes older runs."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict

from workspace.errors import UserError
from workspace.exact.manifest import write_json
from workspace.runs import RUNS, Identity, RunFolder, remove

FAILED_START_SECONDS = 3600.0
"""Seconds for which an empty run is kept, because another process may just have opened it."""


def held(folder: RunFolder) -> str:
    """The error message for a second process."""
    return f"{folder.root} is being worked on by another process: wait for it, or stop it"


class HeldError(UserError):
    """Another living process works in the run."""


@contextmanager
def locked(folder: RunFolder) -> Iterator[None]:
    """Hold the run for this process.

    Raises:
        HeldError: another living process holds it.
    """
    path = folder.root / "lock"
    with ExitStack() as stack:
        try:
            file = stack.enter_context(path.open("a"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            same = os.path.samestat(os.fstat(file.fileno()), path.stat())
        except (BlockingIOError, FileNotFoundError) as error:
            raise HeldError(held(folder)) from error
        if not same:  # the run was removed and started again after it was opened here
            raise HeldError(held(folder))
        yield


def holds(folder: RunFolder, identity: os.stat_result) -> bool:
    """Whether the run's folder is still the one with this `identity`; another process may have replaced it."""
    with suppress(FileNotFoundError):
        return os.path.samestat(folder.root.stat(), identity)
    return False


@contextmanager
def working(stage: str, identity: Identity, keep_others: bool) -> Iterator[RunFolder]:
    """Hold the run with this identity for this process; its folders are created if necessary, while it is held.

    The stage's other finished runs are removed, and old runs that failed before making anything.

    Raises:
        HeldError: another living process holds it.
    """
    folder = RunFolder(RUNS / stage / identity.fingerprint)
    forget_others(folder, keep_others)
    with suppress(FileExistsError):  # also raised if another process removes it at that moment
        folder.root.mkdir(parents=True)
    with locked(folder):
        for path in (folder.out, folder.metrics, folder.work):
            path.mkdir(exist_ok=True)
        if not (folder.root / "run.json").is_file():
            write_json(
                folder.root / "run.json", {"identity": asdict(identity), "seconds": 0.0, "adopted": []}
            )
        yield folder


def forget_others(folder: RunFolder, keep_done: bool = False) -> None:
    """Remove a stage's other finished runs, and old runs that failed before making anything."""
    for other in sorted(folder.root.parent.iterdir()) if folder.root.parent.is_dir() else ():
        if other.name.startswith("."):  # a killed process left it half removed
            remove(other)
        elif other != folder.root and _forgettable(RunFolder(other), keep_done):
            with suppress(HeldError), locked(RunFolder(other)):  # another process may be publishing it
                RunFolder(other).forget()


def _forgettable(run: RunFolder, keep_others: bool) -> bool:
    if run.done:
        return not keep_others
    return run.empty and time.time() - run.touched > FAILED_START_SECONDS
