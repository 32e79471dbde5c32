"""Processes of this machine, as /proc tells of them."""

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from cluster.leftovers import PROCESSES, STARTING_SECONDS, command_line

T = TypeVar("T")


def title(pid: int) -> str:
    """What a process calls itself, also if it is just being started; "" where it is gone or a zombie."""
    with suppress(OSError):
        line = command_line(PROCESSES / str(pid), time.monotonic() + STARTING_SECONDS)
        return (line or b"").replace(b"\0", b" ").decode(errors="replace").strip()
    return ""


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the name: state, parent, group, session …"""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return ["X", "0", "0", "0"]


def everybody() -> list[int]:
    """All living processes; zombies are not."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdecimal()]
    return [pid for pid in pids if _stat(pid)[0] not in "XZ"]


def below(root: int) -> list[int]:
    """The living descendants of a process."""
    parents = {pid: int(_stat(pid)[1]) for pid in everybody()}
    found, waiting = [], [root]
    while waiting:
        parent = waiting.pop()
        children = [pid for pid, its in parents.items() if its == parent]
        found += children
        waiting += children
    return found


def in_session(session: int) -> list[int]:
    """The living processes of a session."""
    return [pid for pid in everybody() if int(_stat(pid)[3]) == session]


def kill(pid: int) -> None:
    """SIGKILL, if it is still there."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def wait_for(look: Callable[[], T], seconds: float, every: float = 0.05) -> T:
    """What `look` gives as soon as it is true, or when time is up."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found or time.monotonic() > deadline:
            return found
        time.sleep(every)
