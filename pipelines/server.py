"""What a run needs of its workspace and of the dashboard: the workspace to itself, and the addresses of its files."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from prefect import get_run_logger

from pipelines.home import HOME, lock, others
from pipelines.overrides import WORKSPACE, take_back
from pipelines.running import RUNNING, StoppedError
from pipelines.site import FILES

LOOK_SECONDS = 0.5


def report_url(root: Path, page: Path) -> str | None:
    """Where the dashboard serves a file of an arm's or the workspace's report; None where this is somebody else's Prefect.

    The address has no host, so that it holds whenever the dashboard runs, on another port too, and through a tunnel.
    """
    for place in (root.resolve(), *root.resolve().parents):
        if (place / HOME).is_dir() and not others():
            return FILES + quote((root.resolve() / page).relative_to(place).as_posix())
    return None


@contextmanager
def workspace_slot(root: Path) -> Iterator[None]:
    """Hold the workspace: runs of one workspace wait for each other, instead of failing on DVC's lock.

    The lock is the kernel's: it is free as soon as the run, and the guards of its stages, are gone, by whatever signal.

    Raises:
        StoppedError: the run is being ended while it waits.
    """
    waits = False
    while True:
        with lock(root / WORKSPACE) as file:
            if file is not None:
                take_back(root)  # what a run left that was killed with its keeper
                RUNNING.held = file
                try:
                    yield
                finally:
                    RUNNING.held = None
                return
        if not waits:
            get_run_logger().info("another run has this workspace; this one waits for it")
            waits = True
        if RUNNING.ended:
            raise StoppedError("the run is being stopped")
        time.sleep(LOOK_SECONDS)
