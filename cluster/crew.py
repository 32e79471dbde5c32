"""Short fan-outs on this machine: their workers are threads of the stage's process, so no Ray worker has to start.

Starting two Ray workers takes about ten seconds of processor time, mostly for importing torch: more than a whole fan-out of
the demo. Threads therefore begin at once. Jobs that they have not begun within `SHORT_SECONDS` are left to Ray workers, which
do not share one interpreter lock, and whose death costs one shard instead of the stage. A job gives the same bytes in both.
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
"""Seconds during which threads take jobs before Ray workers take the rest; 0 never uses threads."""

LOOK_SECONDS = 0.5
"""Seconds between wake-ups of the waiting thread: if the kernel delivers a signal to another thread, Python runs its handler
only when the main thread wakes."""


class Worker(Protocol[Job_contra]):
    """Runs jobs, one at a time."""

    def prepare(self) -> str:
        """Build what all jobs share; returns the user's mistake, or ""."""

    def run(self, task: Job_contra) -> str:
        """Run a job; returns why it failed, or ""."""


def suits(compute: Compute) -> bool:
    """Whether threads may begin: only on this machine's CPUs; GPUs and clusters use Ray from the start."""
    on_cpu = compute.device == "cpu" or (compute.device == "auto" and not torch.cuda.is_available())
    return SHORT_SECONDS > 0 and compute.ray_address == "local" and on_cpu


def begun(
    worker: Callable[[], Worker[Job]], jobs: Iterator[Job], count: int, compute: Compute
) -> Iterator[str]:
    """Run jobs in threads until none is left or time is up; yields for each why it failed, in one line, or "".

    Args:
        worker: returns a worker; called once per thread.
        jobs: taken one at a time by free threads; the remaining ones can be taken from it afterwards.
        count: number of jobs.
        compute: the number of threads, and torch's threads in each.

    Raises:
        UserError: a user's mistake found by `prepare`, or more workers than this machine has processors.
        Exception: any other error from `prepare`.
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
        torch.set_num_threads(before)  # the stage's own process computes again after the fan-out


class _Crew(Generic[Job]):
    """A group of threads that take jobs from one iterator."""

    def __init__(self, worker: Callable[[], Worker[Job]], jobs: Iterator[Job]) -> None:
        self.worker, self.jobs, self.taking = worker, jobs, threading.Lock()
        self.deadline = time.monotonic() + SHORT_SECONDS
        self.said: SimpleQueue[str | BaseException | None] = SimpleQueue()
        self.threads: list[threading.Thread] = []

    def start(self, size: int) -> None:
        """Start `size` daemon threads, which end with the process at the latest."""
        for number in range(size):
            self.threads.append(threading.Thread(target=self._work, name=f"worker-{number}", daemon=True))
            self.threads[-1].start()

    def results(self) -> Iterator[str]:
        """Yields each finished job's failure, or ""; no job begins after the deadline."""
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
        """Interrupt the threads inside their jobs, as if the process were stopped."""
        self.deadline = 0.0
        for thread in self.threads:
            if thread.ident is not None and thread.is_alive():
                # the only way to interrupt a thread inside a job: the exception is raised at its next Python instruction
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
        except SystemExit:  # raised by `stop`; nobody waits for results
            return
        except BaseException as error:
            self.said.put(error)
        else:
            self.said.put(None)

    def _next(self) -> Job | None:
        with self.taking:
            return next(self.jobs, None) if time.monotonic() < self.deadline else None
