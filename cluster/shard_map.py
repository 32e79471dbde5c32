"""`map_shards`: one input shard → one output file, on Ray actors that hold the model, or in this process.

Idempotent and resumable: a job whose side file exists is done. A shard that fails three times is reported by name and
stops the stage at the end, with the others kept.
"""

import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.devices import threads_of, use_threads
from cluster.session import session, wants_gpu
from workspace.errors import UserError
from workspace.manifest import read_json, write_json
from workspace.progress import Progress
from workspace.settings import Compute

ATTEMPTS = 3


@dataclass(frozen=True)
class ShardJob:
    """One shard's work.

    Attributes:
        input: the file to read.
        output: the file to write, atomically, by the mapped function; its name is unique among the jobs.
        index: number of the job, 0 …
    """

    input: Path
    output: Path
    index: int


Facts = dict[str, Any]
OneShard = Callable[[ShardJob], Facts]


@dataclass(frozen=True)
class Outcome:
    """What became of a job: its facts, or in words what went wrong."""

    facts: Facts | None
    error: str


def map_shards(
    make: Callable[[], OneShard],
    jobs: Sequence[ShardJob],
    compute: Compute,
    work: Path,
    title: str,
    progress_file: Path,
) -> list[Facts]:
    """Run the function that `make` returns on every job; `make` is called once a worker (it loads the model).

    Args:
        make: importable (a function or a partial of one).
        jobs: in the order in which facts are returned.
        compute: how many workers; 0 does it in this process.
        work: folder of the side files, which say of each done job its facts (JSON).
        title: of the progress bar.
        progress_file: for dashboards.

    Raises:
        UserError: jobs that failed, by name, with the first reason.
    """
    sides = [work / f"{job.output.name}.json" for job in jobs]
    waiting = [number for number, side in enumerate(sides) if not side.is_file()]
    failed: list[tuple[str, str]] = []
    done = len(jobs) - len(waiting)
    with Progress(title, len(jobs), "shards", progress_file, done) as progress:
        for number, outcome in _outcomes(make, [(number, jobs[number]) for number in waiting], compute, work):
            if outcome.facts is None:
                failed.append((jobs[number].input.name, outcome.error))
            else:
                write_json(sides[number], outcome.facts)
                done += 1
            progress.update(done)
    if failed:
        names = ", ".join(name for name, _ in sorted(failed))
        raise UserError(
            f"{title}: {len(failed)} of {len(jobs)} shards failed ({names}): {failed[0][1]}; the others are kept"
        )
    return [read_json(side) for side in sides]


def _outcomes(
    make: Callable[[], OneShard], jobs: Sequence[tuple[int, ShardJob]], compute: Compute, work: Path
) -> Iterator[tuple[int, Outcome]]:
    if not jobs:
        return
    if compute.workers:
        yield from _on_ray(make, jobs, compute, work)
        return
    use_threads(threads_of(compute))
    one = make()
    for number, job in jobs:
        yield number, attempt(one, job, work)


def attempt(one: OneShard, job: ShardJob, work: Path) -> Outcome:
    """Try a job up to three times; a user's mistake is not tried again. Tracebacks of others are kept in `work`."""
    error = ""
    for _ in range(ATTEMPTS):
        try:
            return Outcome(one(job), "")
        except UserError as told:
            return Outcome(None, str(told))
        except Exception as unexpected:
            error = f"{type(unexpected).__name__}: {unexpected}"
            log = work / f"{job.output.name}.error.txt"
            log.parent.mkdir(parents=True, exist_ok=True)
            log.write_text(traceback.format_exc(), encoding="utf-8")
            error += f" (traceback in {log})"
    return Outcome(None, error)


class Mapper:
    """What a Ray actor holds: the mapped function, made once."""

    def __init__(self, make: Callable[[], OneShard], threads: int, work: Path) -> None:
        use_threads(threads)
        self.one, self.work = make(), work

    def run(self, number: int, job: ShardJob) -> tuple[int, Outcome]:
        """Try a job."""
        return number, attempt(self.one, job, self.work)


def _on_ray(
    make: Callable[[], OneShard], jobs: Sequence[tuple[int, ShardJob]], compute: Compute, work: Path
) -> Iterator[tuple[int, Outcome]]:
    """Over a pool of actors; Ray restarts an actor that died and runs its job again."""
    with session(compute):
        import ray
        from ray.util import ActorPool

        gpu = wants_gpu(compute, ray.cluster_resources())
        actor = ray.remote(num_cpus=1, num_gpus=int(gpu), max_restarts=ATTEMPTS, max_task_retries=ATTEMPTS)(
            Mapper
        )
        count = min(compute.workers, len(jobs))
        pool = ActorPool([actor.remote(make, threads_of(compute), work) for _ in range(count)])
        yield from pool.map_unordered(lambda mapper, item: mapper.run.remote(*item), list(jobs))
