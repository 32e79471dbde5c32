"""A pool of Ray actors, fed a little ahead: an actor that dies is replaced, and its work goes to another.

Ray's own `ActorPool` takes all work at once and knows no deaths; its retries charge a death to everything that waited
behind the culprit. Here only the job that was at work is charged, and the driver holds two jobs an actor at most.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from cluster.losses import first_line
from workspace.errors import UserError

Job = TypeVar("Job")
DEPTH = 2
"""Jobs that an actor holds where many wait: one at work, one ready."""
DEATHS = 3
"""Times that a worker may die: under one job, or in a row while starting."""
PATIENCE_SECONDS = 60.0
"""How long no worker may be ready before the cluster is looked at."""


class Pool(Generic[Job]):
    """Actors with the methods `prepare()` → what is wrong, or "", and `run(job)` → what went wrong, or "".

    Args:
        start: makes an actor.
        count: actors.
        capacity: raises a `UserError` if the cluster has no room for a single one.
    """

    def __init__(self, start: Callable[[], Any], count: int, capacity: Callable[[], object]) -> None:
        self.start, self.count, self.capacity = start, count, capacity
        self._starting: dict[Any, Any] = {}
        self._given: dict[Any, deque[tuple[Any, Job]]] = {}
        self._again: deque[Job] = deque()
        self._deaths: Counter[Job] = Counter()
        self._stillborn = 0

    def results(self, jobs: Iterator[Job], total: int) -> Iterator[str]:
        """Work through `total` jobs; for each, as it ends, what went wrong in one line, or "".

        Raises:
            UserError: the actors cannot be made, or the cluster has lost all of its workers.
        Exception: what an actor raised while it was made.
        """
        import ray

        self._jobs, self._unasked = jobs, total
        for _ in range(self.count):
            self._replace()
        left = total
        while left:
            heads = {given[0][0]: actor for actor, given in self._given.items() if given}
            done, _ = ray.wait([*self._starting, *heads], num_returns=1, timeout=PATIENCE_SECONDS)
            if not done and not self._given:
                self.capacity()
            for ref in done:
                if ref in self._starting:
                    self._begin(ref)
                elif (error := self._finish(ref, heads[ref])) is not None:
                    left -= 1
                    yield error

    def _replace(self) -> None:
        actor = self.start()
        self._starting[actor.prepare.remote()] = actor

    def _begin(self, ref: Any) -> None:
        """An actor is ready, or died on the way."""
        import ray

        actor = self._starting.pop(ref)
        try:
            mistake = ray.get(ref)
        except ray.exceptions.RayTaskError as unexpected:  # it would meet every actor
            raise unexpected.cause or unexpected from None
        except ray.exceptions.RayError as died:
            self._stillborn += 1
            if self._stillborn == DEATHS:
                raise UserError(f"workers die while they start: {first_line(died)}") from died
            self._replace()
            return
        if mistake:
            raise UserError(mistake)
        self._stillborn = 0
        self._given[actor] = deque()
        self._feed(actor)

    def _feed(self, actor: Any) -> None:
        """Give an actor its next job, and one more where there is plenty."""
        given = self._given[actor]
        depth = DEPTH if self._unasked > self.count * DEPTH else 1
        while len(given) < depth:
            job = self._next()
            if job is None:
                return
            given.append((actor.run.remote(job), job))

    def _next(self) -> Job | None:
        if self._again:
            return self._again.popleft()
        job = next(self._jobs, None)
        self._unasked -= job is not None
        return job

    def _finish(self, ref: Any, actor: Any) -> str | None:
        """The outcome of an actor's job; None where it died and the job will be tried again."""
        import ray

        _, job = self._given[actor].popleft()
        try:
            error: str = ray.get(ref)
        except ray.exceptions.RayTaskError as unexpected:
            error = first_line(unexpected.cause or unexpected)
        except ray.exceptions.RayError as died:
            return self._bury(actor, job, died)
        self._feed(actor)
        return error

    def _bury(self, actor: Any, job: Job, died: Exception) -> str | None:
        import ray

        self._again.extendleft(waiting for _, waiting in reversed(self._given.pop(actor)))
        ray.kill(actor)  # it may only have been out of reach
        self._replace()
        self._deaths[job] += 1
        if self._deaths[job] == DEATHS:
            return f"its worker died: {first_line(died)}"
        self._again.append(job)
        for other in self._given:
            self._feed(other)
        return None
