"""Displays a remote worker's progress: the driver reads the progress file that the worker writes."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from workspace.progress import Progress

POLL_SECONDS = 0.5


@contextmanager
def shown(file: Path) -> Iterator[None]:
    """Display `file` as a progress bar within the block."""
    file.unlink(missing_ok=True)
    with in_background(lambda over: _follow(file, over)):
        yield


@contextmanager
def in_background(work: Callable[[threading.Event], None]) -> Iterator[None]:
    """Run `work` in a thread during the block; the event that it is given is set at the block's end, which waits for it."""
    over = threading.Event()
    thread = threading.Thread(target=work, args=(over,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _follow(file: Path, over: threading.Event) -> None:
    state = _wait_for(file, over)
    if state is None:
        return
    with Progress(state["title"], state["total"], state["unit"], None, state["done"]) as bar:
        while not over.wait(POLL_SECONDS):
            state = _read(file) or state
            bar.update(state["done"], **state["shown"])
        state = _read(file) or state
        bar.update(state["done"], **state["shown"])


def _wait_for(file: Path, over: threading.Event) -> dict[str, Any] | None:
    while not over.wait(POLL_SECONDS):
        state = _read(file)
        if state is not None:
            return state
    return None


def _read(file: Path) -> dict[str, Any] | None:
    """The file's state; it is replaced atomically, so it is complete or absent."""
    try:
        state: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return state
