"""`map_shards`: one input shard → one output file, by workers that hold the model: Ray actors, threads of this process for
short work (cluster/crew.py), or this process alone.

Idempotent and resumable: a job whose side file exists is done. A shard that fails, or whose worker dies three times, is
reported by name and fails the stage at the end; the finished shards are kept. If memory runs out the stage stops at once,
because shards of the same size need the same memory. Apart from the list of jobs, the driver's memory does not grow with the
number of shards: facts stay in the side files, and a worker holds one job.
"""

import os
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, overload

from cluster import crew
from cluster.devices import use_threads
from cluster.pool import LASTING, results
from cluster.session import require_living, session
from workspace.errors import UserError, first_line, is_out_of_memory, is_out_of_space, out_of_space
from workspace.exact.manifest import read_json, write_json
from workspace.progress import Progress
from workspace.settings import Compute

NAMED = 5
"""Number of failed shards that an error names; the rest are counted."""


@dataclass(frozen=True)
class ShardJob:
    """The work for one shard.

    Attributes:
        input: the file to read.
        output: the file to write, atomically, by the mapped function; its name is unique among the jobs.
        index: the job's number, from 0.
    """

    input: Path
    output: Path
    index: int


def jobs_of(inputs: Iterable[Path], output: Callable[[Path], Path]) -> list[ShardJob]:
    """One job per input file, numbered in order.

    Args:
        inputs: the input files.
        output: an input → the absolute path of its output.
    """
    return [ShardJob(path.absolute(), output(path), index) for index, path in enumerate(inputs)]


Facts = dict[str, Any]
OneShard = Callable[[ShardJob], Facts]


@dataclass(frozen=True)
class Task:
    """A job and the folder of its side files.

    Attributes:
        job: the job.
        work: folder of the side files.
    """

    job: ShardJob
    work: Path

    @property
    def side(self) -> Path:
        """The file with its facts, written when it is done."""
        return self.work / f"{self.job.output.name}.json"

    @property
    def done(self) -> bool:
        """Whether it is done and its output still exists."""
        return self.side.is_file() and self.job.output.is_file()

    @property
    def trace(self) -> Path:
        """The file with the full traceback of its last failure."""
        return self.work / f"{self.job.output.name}.error.txt"

    @property
    def name(self) -> str:
        """The input's name in errors."""
        return f"{self.job.input.parent.name}/{self.job.input.name}"


class SideFiles(Sequence[Facts]):
    """The facts of jobs, in order, read from their side files on access."""

    def __init__(self, jobs: Sequence[ShardJob], work: Path) -> None:
        self.jobs, self.work = jobs, work

    def __len__(self) -> int:
        """Number of jobs."""
        return len(self.jobs)

    @overload
    def __getitem__(self, index: int) -> Facts: ...

    @overload
    def __getitem__(self, index: slice) -> list[Facts]: ...

    def __getitem__(self, index: int | slice) -> Facts | list[Facts]:
        """Facts of one job, or of a slice."""
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        facts: Facts = read_json(Task(self.jobs[index], self.work).side)
        return facts


def map_shards(
    make: Callable[[], OneShard],
    jobs: Sequence[ShardJob],
    compute: Compute,
    work: Path,
    title: str,
    progress_file: Path,
) -> SideFiles:
    """Run the function that `make` returns on every job; `make` is called once per worker (it loads the model).

    Args:
        make: importable (a function or a partial of one).
        jobs: the jobs; facts are returned in their order.
        compute: the number of workers; 0 runs the jobs in this process.
        work: folder of the side files, which hold each finished job's facts (JSON); on storage that all nodes reach.
        title: title of the progress bar.
        progress_file: progress for dashboards.

    Raises:
        UserError: jobs failed (named, with the first reason), memory ran out, or the cluster has too few resources.
    """
    work.mkdir(parents=True, exist_ok=True)
    waiting = [number for number, job in enumerate(jobs) if not Task(job, work).done]
    done, told = len(jobs) - len(waiting), ""
    tasks = (Task(jobs[number], work) for number in waiting)
    errors = closing(_errors(make, tasks, len(waiting), compute, work))
    with Progress(title, len(jobs), "shards", progress_file, done) as progress, errors as found:
        for error in found:
            if is_out_of_memory(RuntimeError(error)):
                raise UserError(f"{title}: {error}; finished shards are kept")
            told = told or error
            done += not error
            progress.update(done)
    failed = [task.name for task in (Task(job, work) for job in jobs) if not task.done]
    if failed:
        names = ", ".join(failed[:NAMED]) + (f" and {len(failed) - NAMED} more" if failed[NAMED:] else "")
        raise UserError(
            f"{title}: {len(failed)} of {len(jobs)} shards failed ({names}): {told}; the others are kept"
        )
    return SideFiles(jobs, work)


def _errors(
    make: Callable[[], OneShard], tasks: Iterator[Task], count: int, compute: Compute, work: Path
) -> Generator[str, None, None]:
    """Run the `count` tasks; yields for each finished one why it failed, in one line, or ""."""
    if not count:
        return
    if compute.workers:
        yield from _by_workers(make, tasks, count, compute, work)
        return
    use_threads(compute.threads_per_worker)
    one = make()
    for task in tasks:
        yield attempt(one, task)


def attempt(one: OneShard, task: Task) -> str:
    """Run a task and write its side file. Only the death of a worker is retried, not an error.

    Returns:
        Why it failed, or "".
    """
    try:
        write_json(task.side, one(task.job))
    except UserError as told:
        return str(told)
    except Exception as unexpected:
        if is_out_of_space(unexpected):
            return str(out_of_space(unexpected))
        if is_out_of_memory(unexpected):
            return f"{type(unexpected).__name__}: {first_line(unexpected)}"
        task.trace.parent.mkdir(parents=True, exist_ok=True)
        task.trace.write_text(traceback.format_exc(), encoding="utf-8")
        return f"{type(unexpected).__name__}: {unexpected} (traceback in {task.trace})"
    task.trace.unlink(missing_ok=True)
    return ""


class Mapper:
    """A worker's state: the mapped function, made once, in the driver's working directory."""

    def __init__(self, make: Callable[[], OneShard], threads: int, folder: str) -> None:
        self.make, self.threads, self.folder = make, threads, folder
        self.one: OneShard | None = None

    def prepare(self) -> str:
        """Make the function, unless it exists; returns the user's mistake, or ""."""
        if self.one is not None:
            return ""
        os.chdir(self.folder)
        use_threads(self.threads)
        try:
            self.one = self.make()
        except UserError as told:
            return str(told)
        return ""

    def run(self, task: Task) -> str:
        """Run a task; returns why it failed, or "". An actor restarted by Ray makes its function first."""
        if mistake := self.prepare():
            return mistake
        assert self.one is not None
        return attempt(self.one, task)


def _by_workers(
    make: Callable[[], OneShard], tasks: Iterator[Task], count: int, compute: Compute, work: Path
) -> Iterator[str]:
    """Run tasks in threads first, if suitable; after a while leave the rest to Ray."""
    if crew.suits(compute):
        mapper = partial(Mapper, make, compute.threads_per_worker, str(Path.cwd()))
        for error in crew.begun(mapper, tasks, count, compute):
            count -= 1
            yield error
    if count:
        yield from _on_ray(make, tasks, count, compute, work)


def _on_ray(
    make: Callable[[], OneShard], tasks: Iterator[Task], count: int, compute: Compute, work: Path
) -> Iterator[str]:
    """Run tasks over a pool of actors, each with a GPU if workers get one."""
    with session(compute, work) as granted:
        import ray

        mapper = ray.remote(num_cpus=1, num_gpus=int(granted.gpu), **LASTING)(Mapper)
        arguments = (make, granted.compute.threads_per_worker, str(Path.cwd()))
        actors = (mapper.remote(*arguments) for _ in range(min(granted.compute.workers, count)))
        yield from results(actors, tasks, lambda: require_living(granted))
