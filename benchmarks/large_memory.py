"""Memory of a process and of those that it started, as the kernel shares it out: Linux's proportional set size (PSS).

A page of one process counts whole, of a page that n processes share an n-th part for each: the sum over a tree is what it takes.
"""

import os
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Event, Thread
from typing import Any

MIB = 1 << 20


def pss(process: int) -> int:
    """Bytes of one process; 0 where it has ended."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def tree(process: int) -> list[int]:
    """A process and all that descend from it."""
    found = [process]
    for one in found:
        tasks = Path(f"/proc/{one}/task")
        try:
            for children in tasks.glob("*/children"):
                found += map(int, children.read_text(encoding="ascii").split())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def watched(work: Callable[..., Any], *args: Any, every: float = 0.25) -> tuple[Any, int, int]:
    """Run a function in a fresh process; its result, the highest PSS of its tree in bytes, and how many processes that was."""
    context = get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_answering, args=(there, work, args))
    process.start()
    assert process.pid is not None
    ended, peaks = Event(), [(0, 0)]

    def look() -> None:
        while not ended.wait(every):
            members = tree(process.pid or os.getpid())
            peaks.append((sum(map(pss, members)), len(members)))

    looking = Thread(target=look, daemon=True)
    looking.start()
    there.close()
    try:
        result = here.recv()
    finally:
        process.join()
        ended.set()
        looking.join()
    highest, processes = max(peaks)
    return result, highest, processes


def _answering(there: Connection, work: Callable[..., Any], args: tuple[Any, ...]) -> None:
    there.send(work(*args))
    time.sleep(0.5)  # the last state is looked at too
