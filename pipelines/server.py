"""Where the project's own Prefect server is, if `make dashboard` runs; and the slot that a run of a workspace takes."""

import hashlib
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from prefect import get_run_logger
from prefect.client.orchestration import get_client
from prefect.concurrency.sync import concurrency
from prefect.settings import PREFECT_API_URL, temporary_settings

HOME = Path(".runs/prefect")
STATE = HOME / "dashboard.json"
LEASE_SECONDS = 60.0
"""How long the slot of a run that died by force stays taken."""


def dashboard(root: Path) -> dict[str, Any] | None:
    """What the running dashboard of a workspace wrote of itself (`api`, `ui`, `reports`), or None."""
    if not (root / STATE).is_file():
        return None
    state: dict[str, Any] = json.loads((root / STATE).read_text(encoding="utf-8"))
    with suppress(OSError), socket.create_connection(("127.0.0.1", state["port"]), timeout=1.0):
        return state
    return None


@contextmanager
def dashboard_used(root: Path) -> Iterator[None]:
    """Runs that are typed by hand appear in the dashboard where it runs, and nobody said otherwise."""
    state = None if os.environ.get("PREFECT_API_URL") else dashboard(root)
    if state is None:
        yield
        return
    with temporary_settings({PREFECT_API_URL: state["api"]}):
        yield


def report_url(root: Path, page: Path) -> str | None:
    """Where the dashboard serves a file of an arm's or the workspace's report, or None where it does not run."""
    for home in (root.resolve(), *root.resolve().parents):
        state = dashboard(home)
        if state is not None:
            return f"{state['reports']}/{quote((root.resolve() / page).relative_to(home).as_posix())}"
    return None


def limit_of(root: Path) -> str:
    """The name of a workspace's concurrency limit."""
    place = root.resolve()
    return f"workspace-{place.name}-{hashlib.sha256(str(place).encode()).hexdigest()[:8]}"


@contextmanager
def workspace_slot(root: Path) -> Iterator[None]:
    """Hold the workspace: runs of one workspace wait for each other, instead of failing on DVC's lock."""
    name = limit_of(root)
    with get_client(sync_client=True) as client:
        client.upsert_global_concurrency_limit_by_name(name, 1)
        if client.read_global_concurrency_limit_by_name(name).active_slots:
            get_run_logger().info("another run has this workspace; this one waits for it")
    with concurrency(name, strict=True, lease_duration=LEASE_SECONDS):
        yield
