"""Exclusive use of the workspace for a run, and its files' addresses in the dashboard."""

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
    """The dashboard's address of a file in an arm's or the workspace's report; None with the user's own Prefect.

    The address has no host, so that it stays valid on another port and through a tunnel.
    """
    for place in (root.resolve(), *root.resolve().parents):
        if (place / HOME).is_dir() and not others():
            return FILES + quote((root.resolve() / page).relative_to(place).as_posix())
    return None


@contextmanager
def workspace_slot(root: Path) -> Iterator[None]:
    """Hold the workspace, so that its runs wait for each other instead of failing on DVC's lock.

    The kernel releases the lock as soon as the run and its stages' guards are gone, by any signal.

    Raises:
        StoppedError: the run is stopped while it waits.
    """
    waits = False
    while True:
        with lock(root / WORKSPACE) as file:
            if file is not None:
                take_back(root)  # restore the settings of a run that was killed with its keeper
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
