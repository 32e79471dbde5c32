"""The short fan-outs of this machine: their workers are threads of the stage's own process, so that no Ray worker starts.

Starting two Ray workers takes some ten seconds of processor time, most of it imports of torch: more than a fan-out of the
demo itself. So threads begin at once; what they have not begun within `SHORT_SECONDS` is left to Ray's workers, which do
not share one interpreter's lock, and whose death costs a shard and not the stage. A job gives the same bytes in both.
"""

import ctypes
import os
import threading
import time
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from typing import Generic, Protocol, TypeVar

import torch

from cluster.session import granted_of
from workspace.errors import UserError
from workspace.settings import Compute

Job = TypeVar("Job")
Job_contra = TypeVar("Job_contra", contravariant=True)
SHORT_SECONDS = 20.0
"""How long threads take jobs before Ray's workers are started for the rest; 0 never takes threads."""

LOOK_SECONDS = 0.5
"""How often the waiting thread wakes: Python calls a signal's handler only then, where the kernel woke another thread."""


class Worker(Protocol[Job_contra]):
    """What does jobs, one at a time."""

    def prepare(self) -> str:
        """Make what all jobs need; what a user did wrong, or ""."""

    def run(self, task: Job_contra) -> str:
        """Try a job; what went wrong, or ""."""


def suits(compute: Compute) -> bool:
    """Whether threads may begin: on this machine and its processors; GPUs and clusters are Ray's from the start."""
    on_cpu = compute.device == "cpu" or (compute.device == "auto" and not torch.cuda.is_available())
    return SHORT_SECONDS > 0 and compute.ray_address == "local" and on_cpu


def begun(
    worker: Callable[[], Worker[Job]], jobs: Iterator[Job], count: int, compute: Compute
) -> Iterator[str]:
    """Do jobs in threads until none is left or the time is over; for each, what went wrong in one line, or "".

    Args:
        worker: makes what does the jobs, once per thread.
        jobs: taken one at a time as threads are free; those left over can be taken from it afterwards.
        count: how many there are.
        compute: how many threads, and torch's threads in each.

    Raises:
        UserError: a mistake while a worker was made, or more workers than this machine has processors.
        Exception: what else was raised then.
    """
    granted = granted_of(compute, {"CPU": os.cpu_count() or 1})
    before, crew = torch.get_num_threads(), _Crew(worker, jobs)
    try:
        crew.start(min(granted.compute.workers, count))
        yield from crew.results()
    except BaseException:
        crew.stop()
        raise
    finally:
        torch.set_num_threads(before)  # the stage itself computes on after a fan-out


class _Crew(Generic[Job]):
    """Threads that share an iterator of jobs."""

    def __init__(self, worker: Callable[[], Worker[Job]], jobs: Iterator[Job]) -> None:
        self.worker, self.jobs, self.taking = worker, jobs, threading.Lock()
        self.deadline = time.monotonic() + SHORT_SECONDS
        self.said: SimpleQueue[str | BaseException | None] = SimpleQueue()
        self.threads: list[threading.Thread] = []

    def start(self, size: int) -> None:
        """Begin with `size` threads; they end with the process, whatever they do."""
        for number in range(size):
            self.threads.append(threading.Thread(target=self._work, name=f"worker-{number}", daemon=True))
            self.threads[-1].start()

    def results(self) -> Iterator[str]:
        """What went wrong with each job, or "", as it ends; after the deadline no job is begun."""
        alive = len(self.threads)
        while alive:
            try:
                said = self.said.get(timeout=LOOK_SECONDS)
            except Empty:
                continue
            if isinstance(said, BaseException):
                raise said
            if said is None:
                alive -= 1
            else:
                yield said

    def stop(self) -> None:
        """End the threads where they are, as a stopped process would."""
        self.deadline = 0.0
        for thread in self.threads:
            if thread.ident is not None and thread.is_alive():
                # there is no other way to reach a thread within a job; it sees this at its next line of Python
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit)
                )
        for thread in self.threads:
            thread.join()

    def _work(self) -> None:
        try:
            worker = self.worker()
            if mistake := worker.prepare():
                raise UserError(mistake)
            while (job := self._next()) is not None:
                self.said.put(worker.run(job))
        except SystemExit:  # from `stop`: nobody listens
            return
        except BaseException as error:
            self.said.put(error)
        else:
            self.said.put(None)

    def _next(self) -> Job | None:
        with self.taking:
            return next(self.jobs, None) if time.monotonic() < self.deadline else None
