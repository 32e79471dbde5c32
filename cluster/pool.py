"""Jobs over Ray actors, one job per actor at a time. Ray restarts an actor that dies and sends it the same job again.

An actor holds only one job, because Ray counts its death against every job that was sent to it. The driver's memory does not
grow with the number of jobs.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from cluster.losses import is_relayed
from workspace.errors import UserError, first_line

Job = TypeVar("Job")
LASTING = {"max_restarts": -1, "max_task_retries": 2}
"""Actor options: Ray restarts it wherever there is room, and tries its task three times in all."""
PATIENCE_SECONDS = 60.0
"""Seconds without a finished job after which the cluster is checked."""


def results(
    actors: Iterable[Any], jobs: Iterator[Job], room: Callable[[], object], patience: float = PATIENCE_SECONDS
) -> Iterator[str]:
    """Run all jobs; yields for each finished one why it failed, in one line, or "".

    Args:
        actors: have the methods `prepare()` → the user's mistake, or "", and `run(job)` → why it failed, or "".
        jobs: taken one at a time by free actors.
        room: raises a `UserError` if the cluster has no room for a single actor.
        patience: seconds without a result after which `room` is called.

    Raises:
        UserError: `prepare` found a user's mistake, or the cluster has lost all of its workers.
        Exception: any other error from `prepare`.
    """
    import ray

    busy = {actor.prepare.remote(): actor for actor in actors}
    starting = set(busy)
    while busy:
        done, _ = ray.wait(list(busy), num_returns=1, timeout=patience)
        if not done:
            room()
        for ref in done:
            actor = busy.pop(ref)
            if ref in starting:
                starting.remove(ref)
                _require_started(ref)
            else:
                yield _outcome(ref)
            if (job := next(jobs, None)) is not None:
                busy[actor.run.remote(job)] = actor
            del actor  # end an idle actor, so that one that must restart has room


def _require_started(ref: Any) -> None:
    """Raise an actor's error from starting, if there is one."""
    import ray

    try:
        mistake = ray.get(ref)
    except ray.exceptions.RayError as error:
        if is_relayed(error):  # every actor would fail in the same way
            raise getattr(error, "cause", None) or error from None
        raise UserError(f"workers die while they start: {first_line(error)}") from error
    if mistake:
        raise UserError(mistake)


def _outcome(ref: Any) -> str:
    """Why a job failed, or ""."""
    import ray

    try:
        error: str = ray.get(ref)
    except ray.exceptions.RayError as raised:
        if is_relayed(raised):
            return first_line(getattr(raised, "cause", None) or raised)
        return f"its worker died: {first_line(raised)}"
    return error
