"""Looking at what another process makes and removes, on a machine that is busy with other things."""

import glob
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


def matching(folder: Path, pattern: str) -> list[Path]:
    """What matches below a folder now, sorted. Path.glob raises where a folder goes while it looks; this does not."""
    return sorted(Path(name) for name in glob.glob(f"{glob.escape(str(folder))}/{pattern}"))


def until(look: Callable[[], T], seconds: float, every: float = 0.05) -> T:
    """What `look` gives as soon as it is true.

    Args:
        look: asked again and again, with a pause between, since what it waits for needs the processor.
        seconds: after which the test fails, on an idle machine; more where more processes want to run than there are cores.
        every: seconds between looks.
    """
    began = time.monotonic()
    while not (seen := look()):
        assert time.monotonic() - began < seconds * slowness(), f"not within {seconds:.0f} s: {look}"
        time.sleep(every)
    return seen


def becomes(expected: T, look: Callable[..., T], *of: Any, seconds: float = 30, every: float = 0.05) -> None:
    """Waits until `look(*of)` gives what is expected; fails, and says what it gives, where it does not in time (see `until`)."""
    began = time.monotonic()
    while (seen := look(*of)) != expected and time.monotonic() - began < seconds * slowness():
        time.sleep(every)
    assert seen == expected


def slowness() -> float:
    """How much longer than alone things take where more processes want to run than there are cores."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
