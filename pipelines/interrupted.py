"""Runs that lost their process because the worker died, or because the dashboard ended or was killed.

After a worker's death its runs are marked as crashed and left to the user, because the cause may kill them again. Runs
interrupted by the end of the dashboard are rescheduled at its next start, and continue from their last checkpoint.
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
"""Tolerance in seconds: a run may report its end shortly before the dashboard was last alive."""


@contextmanager
def client_of(api: str) -> Iterator[Any]:
    """A client of a server's API."""
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: api}), get_client(sync_client=True) as client:
        yield client


def _of_a_worker(client: Any, *states: str) -> list[Any]:
    """Deployments' runs in these states."""
    return [run for run in _in_states(client, *states) if run.deployment_id is not None]


def _in_states(client: Any, *states: str) -> list[Any]:
    from prefect.client.schemas.filters import FlowRunFilter

    only = FlowRunFilter.model_validate({"state": {"type": {"any_": list(states)}}})
    return [run for run in client.read_flow_runs(flow_run_filter=only) if run.parent_task_run_id is None]


def running(api: str) -> list[UUID]:
    """Runs that a worker is executing."""
    with client_of(api) as client:
        return [run.id for run in _of_a_worker(client, "RUNNING", "PENDING", "CANCELLING")]


def mark_crashed(api: str, lost: Sequence[UUID]) -> None:
    """Mark runs that lost their worker as crashed, unless they have already ended."""
    from prefect.client.schemas.objects import StateType
    from prefect.states import Crashed

    told = "The worker that had this run died. Retry continues from the last checkpoint."
    ended = {StateType.COMPLETED, StateType.FAILED, StateType.CANCELLED, StateType.PAUSED}
    with client_of(api) as client:
        for run in lost:
            if client.read_flow_run(run).state_type not in ended:
                client.set_flow_run_state(run, Crashed(message=told), force=True)


def take_up(api: str, last_seen: float | None) -> list[str]:
    """Reschedule runs interrupted by the end of the last dashboard; runs that were being cancelled are cancelled.

    Args:
        api: the server's API.
        last_seen: when that dashboard was last alive, in seconds since the epoch; None if there was none.

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
    """Mark runs started in a shell as crashed if their process is gone, that is, if nobody holds their lock."""
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
        return  # the server is busy; the next call finds the same files
    for path in left.values():
        path.unlink(missing_ok=True)


def _age(path: Path) -> float:
    """Seconds since a file was written, because a new one is not locked yet; 0 if it does not exist."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
