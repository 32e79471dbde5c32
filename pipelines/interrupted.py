"""Runs that lost their process: when the worker dies, and when the dashboard itself has ended or was killed.

A worker's death is looked at by its user, since what killed it may kill it again: its runs are marked as crashed. The end of the
dashboard is nobody's fault: what it interrupted is scheduled again at its next start, and continues from its last checkpoint.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from pipelines.home import ALIVE, locked

SLACK_SECONDS = 2.0
"""A run may tell of its end a moment before the dashboard was last seen alive."""


@contextmanager
def client_of(api: str) -> Iterator[Any]:
    """A client of a server's API."""
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: api}), get_client(sync_client=True) as client:
        yield client


def _of_a_worker(client: Any, *states: str) -> list[Any]:
    """Runs of deployments in these states."""
    return [run for run in _in_states(client, *states) if run.deployment_id is not None]


def _in_states(client: Any, *states: str) -> list[Any]:
    from prefect.client.schemas.filters import FlowRunFilter

    only = FlowRunFilter.model_validate({"state": {"type": {"any_": list(states)}}})
    return [run for run in client.read_flow_runs(flow_run_filter=only) if run.parent_task_run_id is None]


def running(api: str) -> list[UUID]:
    """Runs that a worker has."""
    with client_of(api) as client:
        return [run.id for run in _of_a_worker(client, "RUNNING", "PENDING", "CANCELLING")]


def mark_crashed(api: str, lost: Sequence[UUID]) -> None:
    """Tell the server that runs which no worker has any more have crashed, unless they came to their end before."""
    from prefect.client.schemas.objects import StateType
    from prefect.states import Crashed

    told = "The worker that had this run died. Retry continues from the last checkpoint."
    ended = {StateType.COMPLETED, StateType.FAILED, StateType.CANCELLED, StateType.PAUSED}
    with client_of(api) as client:
        for run in lost:
            if client.read_flow_run(run).state_type not in ended:
                client.set_flow_run_state(run, Crashed(message=told), force=True)


def take_up(api: str, last_seen: float | None) -> list[str]:
    """Schedule again the runs that the end of the last dashboard interrupted; runs that were being cancelled are cancelled.

    Args:
        api: the server's API.
        last_seen: when that dashboard was last alive, in seconds since the epoch; None: there was none.

    Returns:
        The names of the runs that will continue.
    """
    from prefect.states import Cancelled, Scheduled

    told = "The dashboard had ended; this run continues from its last checkpoint."
    since = datetime.fromtimestamp((last_seen or 0) - SLACK_SECONDS, UTC)
    names = []
    with client_of(api) as client:
        crashed = _of_a_worker(client, "CRASHED") if last_seen is not None else []
        lost = [run for run in crashed if run.state.timestamp >= since]
        for run in [*_of_a_worker(client, "RUNNING", "PENDING"), *lost]:
            client.set_flow_run_state(run.id, Scheduled(name="Resuming", message=told), force=True)
            names.append(run.name)
        for run in _of_a_worker(client, "CANCELLING"):
            client.set_flow_run_state(run.id, Cancelled(), force=True)
    return names


def bury(api: str, root: Path) -> None:
    """Mark runs that were typed in a shell as crashed once their process is gone, whose lock then nobody holds."""
    import httpx
    from prefect.states import Crashed

    told = "The process of this run was killed. The same command continues from the last checkpoint."
    made = {path.stem: path for path in (root / ALIVE).glob("*.lock") if _age(path) > SLACK_SECONDS}
    left = {name: path for name, path in made.items() if not locked(path)}
    if not left:
        return
    try:
        with client_of(api) as client:
            for run in _in_states(client, "RUNNING"):
                if run.deployment_id is None and str(run.id) in left:
                    client.set_flow_run_state(run.id, Crashed(message=told), force=True)
    except httpx.HTTPError:
        return  # a busy server; the next look finds the same files
    for path in left.values():
        path.unlink(missing_ok=True)


def _age(path: Path) -> float:
    """Seconds since a file was written: one that is just being made is not locked yet. None there: 0."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
