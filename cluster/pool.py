"""Jobs over Ray actors, one job at a time each: an actor that dies is restarted by Ray, which sends it the same job again.

An actor holds one job, so that its death is charged to that job and to no other: Ray counts a death against everything
that was sent. What the driver holds does not grow with the jobs.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from cluster.losses import first_line, is_relayed
from workspace.errors import UserError

Job = TypeVar("Job")
LASTING = {"max_restarts": -1, "max_task_retries": 2}
"""Options of an actor: Ray restarts it wherever there is room, and tries its task three times in all."""
PATIENCE_SECONDS = 60.0
"""Seconds without a finished job after which the cluster is checked."""


def results(
    actors: Iterable[Any], jobs: Iterator[Job], room: Callable[[], object], patience: float = PATIENCE_SECONDS
) -> Iterator[str]:
    """Work through the jobs; for each, as it ends, what went wrong in one line, or "".

    Args:
        actors: with the methods `prepare()` → what is wrong, or "", and `run(job)` → what went wrong, or "".
        jobs: taken as actors are free.
        room: raises a `UserError` if the cluster has no room for a single actor.
        patience: seconds without a result after which `room` is asked.

    Raises:
        UserError: the actors cannot be made, or the cluster has lost all of its workers.
        Exception: what an actor raised while it was made.
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
            del actor  # an idle actor ends here, so that one that must restart has room


def _require_started(ref: Any) -> None:
    """Raise what is wrong with an actor, unless it is ready."""
    import ray

    try:
        mistake = ray.get(ref)
    except ray.exceptions.RayError as error:
        if is_relayed(error):  # every actor would fail the same way
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
