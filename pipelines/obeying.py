"""Makes a run follow its state on the server: a thread polls the state, and ends the stages when the run must stop.

Prefect's worker acts only on *Cancel*, and only for runs that it started; *Suspend* waits for the next task. A run that is
suspended, paused, cancelled, set to another state by hand, started a second time or deleted therefore ends its own stages within
seconds, and leaves its state on the server unchanged. If the server cannot be reached, the run continues.
"""

import contextvars
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import get_run_logger
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.context import FlowRunContext
from prefect.exceptions import Abort, ObjectNotFound
from prefect.states import Cancelled

from pipelines.home import ALIVE, lock
from pipelines.running import RUNNING

ASK_SECONDS = 2.0
"""Seconds between polls, each a small read: five runs cause two or three per second, for which no writer has to wait."""

LEAVE_SECONDS = 4.0
"""Seconds that the flow may take to leave after its stages have ended, if its process has no other work."""

TIMES_MISSING = 2


@contextmanager
def obeyed() -> Iterator[None]:
    """Follow the run's state on the server within the block, which contains the flow's whole work.

    Raises:
        Abort: the run must stop; Prefect then leaves its state unchanged.
    """
    context = FlowRunContext.get()
    assert context is not None and context.flow_run is not None, "a flow's work runs in its flow"
    watch = Watch(context.flow_run.id)
    alive = Path(ALIVE, f"{context.flow_run.id}.lock")  # lets the dashboard detect killed runs of a shell
    try:
        with lock(alive):
            yield
    except Exception as error:
        if watch.close():
            raise Abort(watch.reason) from error
        raise
    finally:
        watch.close()
        alive.unlink(missing_ok=True)
    if watch.reason:
        raise Abort(watch.reason)


class Watch:
    """The polling thread.

    Attributes:
        reason: why the run ends, or "".
    """

    def __init__(self, flow_run: UUID) -> None:
        self.id, self.reason, self.started = flow_run, "", 0
        self.log = get_run_logger()
        self.closed = threading.Event()
        self.thread = threading.Thread(target=contextvars.copy_context().run, args=(self.work,), daemon=True)
        self.thread.start()

    def close(self) -> str:
        """Stop polling; returns the reason."""
        self.closed.set()
        return self.reason

    def work(self) -> None:
        """Poll until the run ends or must stop."""
        missing, reached = 0, True
        with get_client(sync_client=True) as client:
            while not self.closed.is_set():
                try:
                    reason = self.objection(client.read_flow_run(self.id))
                    missing, reached = 0, True
                except ObjectNotFound:
                    missing += 1
                    reason = "deleted" if missing >= TIMES_MISSING else ""
                except Exception as error:
                    reason = ""
                    if reached:
                        self.log.warning(
                            "the server cannot be reached (%s); this run continues", type(error).__name__
                        )
                    reached = False
                if reason and not self.closed.is_set():
                    self.stop(client, reason)
                    return
                self.closed.wait(ASK_SECONDS)

    def objection(self, run: FlowRun) -> str:
        """Why the server does not want this process to continue, or ""."""
        state = run.state
        if state is None or state.type != StateType.RUNNING:
            return state.name.lower() if state is not None and state.name else "not running"
        self.started = self.started or run.run_count
        return "started again" if run.run_count != self.started else ""

    def stop(self, client: Any, reason: str) -> None:
        """End the stages; then the flow leaves its block, or else the process is ended."""
        self.reason = (
            f"the run is {reason} in the dashboard, so its stages were ended; "
            "resumed, retried or started again, it continues from its last checkpoint"
        )
        self.log.warning("this run is %s: its stages are ended", reason)
        RUNNING.stop()
        if reason == "cancelling":
            with suppress(Exception):  # the worker may have set it already, or the server may be gone
                client.set_flow_run_state(
                    self.id, Cancelled(message="Cancelled in the dashboard."), force=True
                )
        if not self.closed.wait(LEAVE_SECONDS) and own_process():
            leave()


def own_process() -> bool:
    """Whether this process serves only this run: Prefect's engine, or a command of this project."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec is not None and str(spec.name).startswith(("prefect.", "pipelines."))


def leave() -> None:
    """Flush the run's log to the server and end this process; the workspace's keeper restores params.yaml."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    for worker in (APILogWorker, EventsWorker):
        with suppress(Exception):
            worker.drain_all(timeout=1)
    os._exit(0)
