"""Runs a command, and ends everything that it started when this process's stdin is closed or the command has ended.

    python pipelines/guard.py MARK COMMAND ...

The parent holds the other end of stdin. It closes it to stop the command, and the kernel closes it if the parent dies by any
signal. Everything the command starts has MARK in its environment (`OUTER:INNER` for nested guards), which also finds processes
that moved to their own session (as Ray's do) or lost their parent. It is run as a file, so that it needs no import path.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import suppress

import psutil

MARK = "MQVAE_GUARD"
GRACE_SECONDS, FORCE_SECONDS = 5.0, 0.7
"""Seconds that the tree may take to end by itself, and then after SIGTERM to all of it."""

MOST_PATIENCE = 6.0
"""How many times that, at most, on a machine with more work than cores: a stage that ends puts back what DVC removed."""

STOPPED = 143


def tree(mark: str) -> dict[int, psutil.Process]:
    """All living processes with the mark in their environment, and their descendants, without this process."""
    found = {}
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if mark in process.environ().get(MARK, "").split(":"):
                found[process.pid] = process
                found |= {child.pid: child for child in process.children(recursive=True)}
    found.pop(os.getpid(), None)
    return {pid: process for pid, process in found.items() if _lives(process)}


def patience() -> float:
    """How much longer than alone things take where more processes want to run than there are cores."""
    return min(MOST_PATIENCE, max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1)))


def _lives(process: psutil.Process) -> bool:
    """Whether a process runs, and is not a zombie."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _signal(processes: Iterable[psutil.Process], number: int) -> None:
    for process in processes:
        with suppress(psutil.Error):
            process.send_signal(number)


def end_tree(mark: str, leader: int | None = None) -> None:
    """End all marked processes: first by SIGTERM, with the leader last, so that it can clean up; then by force.

    Args:
        mark: the value given to `guard.py`.
        leader: DVC's process, which unlocks when its command ends. It only gets SIGINT, which it ignores while a command
            runs.
    """
    living = tree(mark)
    _signal((process for pid, process in living.items() if pid != leader), signal.SIGTERM)
    _signal((process for pid, process in living.items() if pid == leader), signal.SIGINT)
    for number, seconds in ((signal.SIGTERM, GRACE_SECONDS), (signal.SIGKILL, FORCE_SECONDS)):
        deadline = time.monotonic() + seconds * patience()
        while living and time.monotonic() < deadline:
            time.sleep(0.05)
            living = {pid: process for pid, process in living.items() if _lives(process)}
            living |= {} if living else tree(mark)
        living |= tree(mark)
        _signal(living.values(), number)


def main() -> None:
    """Run the command and exit with its status, or 143 if stdin was closed first."""
    mark, *command = sys.argv[1:]
    # because a shell's background jobs ignore it, and their children inherit that
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # the guard itself ends only when stdin is closed or the child has ended
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    marks = ":".join(filter(None, [os.environ.get(MARK), mark]))
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=os.environ | {MARK: marks})
    ending = threading.Lock()

    def watch() -> None:
        while os.read(0, 1024):  # not sys.stdin, whose lock a thread must not hold when Python exits
            pass
        if ending.acquire(blocking=False):
            end_tree(mark, child.pid)
            os._exit(STOPPED)

    threading.Thread(target=watch, daemon=True).start()
    status = child.wait()
    if not ending.acquire(blocking=False):
        threading.Event().wait()  # the other thread ends the tree and then this process
    end_tree(mark)
    sys.exit(status if status >= 0 else 128 - status)


if __name__ == "__main__":
    main()
