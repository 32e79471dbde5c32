"""`map_shards`: one input shard → one output file, on Ray actors that hold the model, or in this process.

Idempotent and resumable: a job whose side file exists is done. A shard that fails three times, or whose worker dies three
times under it, is reported by name and stops the stage at the end, with the others kept.
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
NAMED = 5
"""Failed shards that an error names; of more it says how many there are."""


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
class Task:
    """A job and where its side files are.

    Attributes:
        job: the job.
        work: folder of the side files.
    """

    job: ShardJob
    work: Path

    @property
    def side(self) -> Path:
        """Its facts, written when it is done."""
        return self.work / f"{self.job.output.name}.json"

    @property
    def done(self) -> bool:
        """Whether it was done, and its output is still there."""
        return self.side.is_file() and self.job.output.is_file()

    @property
    def trace(self) -> Path:
        """Why it failed last, in full."""
        return self.work / f"{self.job.output.name}.error.txt"

    @property
    def name(self) -> str:
        """The input, as an error calls it."""
        return f"{self.job.input.parent.name}/{self.job.input.name}"


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
        work: folder of the side files, which say of each done job its facts (JSON); on storage that all nodes reach.
        title: of the progress bar.
        progress_file: for dashboards.

    Raises:
        UserError: jobs that failed, by name, with the first reason.
    """
    tasks = [Task(job, work) for job in jobs]
    waiting = [task for task in tasks if not task.done]
    done, told = len(tasks) - len(waiting), ""
    with Progress(title, len(tasks), "shards", progress_file, done) as progress:
        for error in _errors(make, waiting, compute):
            told = told or error
            done += not error
            progress.update(done)
    failed = [task.name for task in tasks if not task.done]
    if failed:
        names = ", ".join(failed[:NAMED]) + (f" and {len(failed) - NAMED} more" if failed[NAMED:] else "")
        raise UserError(
            f"{title}: {len(failed)} of {len(tasks)} shards failed ({names}): {told}; the others are kept"
        )
    return [read_json(task.side) for task in tasks]


def _errors(make: Callable[[], OneShard], tasks: Sequence[Task], compute: Compute) -> Iterator[str]:
    """Do the tasks; for each, as it ends, what went wrong in one line, or ""."""
    if not tasks:
        return
    if compute.workers:
        yield from _on_ray(make, tasks, compute)
        return
    use_threads(threads_of(compute))
    one = make()
    for task in tasks:
        yield attempt(one, task)


def attempt(one: OneShard, task: Task) -> str:
    """Try a task up to three times and write its side file; a user's mistake is not tried again.

    Returns:
        What went wrong, or "".
    """
    for _ in range(ATTEMPTS):
        try:
            write_json(task.side, one(task.job))
        except UserError as told:
            return str(told)
        except Exception as unexpected:
            task.trace.parent.mkdir(parents=True, exist_ok=True)
            task.trace.write_text(traceback.format_exc(), encoding="utf-8")
            error = f"{type(unexpected).__name__}: {unexpected} (traceback in {task.trace})"
        else:
            task.trace.unlink(missing_ok=True)
            return ""
    return error


class Mapper:
    """What a Ray actor holds: the mapped function, made once."""

    def __init__(self, make: Callable[[], OneShard], threads: int) -> None:
        use_threads(threads)
        self.mistake = ""
        try:
            self.one = make()
        except UserError as told:
            self.mistake = str(told)

    def run(self, task: Task) -> str:
        """Try a task."""
        return self.mistake or attempt(self.one, task)


def _on_ray(make: Callable[[], OneShard], tasks: Sequence[Task], compute: Compute) -> Iterator[str]:
    """Over a pool of actors. Ray restarts an actor that died and gives its task two more tries."""
    with session(compute):
        import ray
        from ray.util import ActorPool

        gpu = wants_gpu(compute, ray.cluster_resources())
        options = {"num_gpus": int(gpu), "max_restarts": -1, "max_task_retries": ATTEMPTS - 1}
        actor = ray.remote(num_cpus=1, **options)(Mapper)
        count = min(compute.workers, len(tasks))
        pool = ActorPool([actor.remote(make, threads_of(compute)) for _ in range(count)])
        for task in tasks:
            pool.submit(lambda mapper, item: mapper.run.remote(item), task)
        while pool.has_next():
            try:
                yield pool.get_next_unordered()
            except ray.exceptions.RayError as died:
                yield "its worker died: " + next(iter(str(died).splitlines()), type(died).__name__)
