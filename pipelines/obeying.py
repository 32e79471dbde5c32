"""What the server says of a run is done: a thread asks for the run's state, and ends its stages when it is not to run any more.

Prefect's worker acts on *Cancel* alone, and only for runs that it started; *Suspend* waits for the next task. So a run that is
suspended, paused, cancelled, set to any other state by hand, started a second time or deleted ends its stages itself, within
seconds, and leaves its state as the server has it. A server that cannot be reached says nothing, so the run continues.
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
"""One small read: five runs are a load of two or three a second, which no writer waits for."""

LEAVE_SECONDS = 4.0
"""How long the flow itself may take to leave after its stages have ended, where nothing else hangs on its process."""

TIMES_MISSING = 2


@contextmanager
def obeyed() -> Iterator[None]:
    """While the block, a flow's whole work, runs, the server's word on its state holds.

    Raises:
        Abort: the run is not to run any more; Prefect then leaves its state alone.
    """
    context = FlowRunContext.get()
    assert context is not None and context.flow_run is not None, "a flow's work runs in its flow"
    watch = Watch(context.flow_run.id)
    alive = Path(
        ALIVE, f"{context.flow_run.id}.lock"
    )  # by which the dashboard knows a run of a shell that was killed
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
    """The thread.

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
        """Ask no more; the reason."""
        self.closed.set()
        return self.reason

    def work(self) -> None:
        """Ask until the run ends, or must end."""
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
                            "the server cannot be asked (%s); this run continues", type(error).__name__
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
        """End the stages; then the flow leaves its block, or the process ends where it does not."""
        self.reason = (
            f"the run is {reason} in the dashboard, so its stages were ended; "
            "resumed, retried or started again, it continues from its last checkpoint"
        )
        self.log.warning("this run is %s: its stages are ended", reason)
        RUNNING.stop()
        if reason == "cancelling":
            with suppress(Exception):  # the worker may have said so, or the server be gone
                client.set_flow_run_state(
                    self.id, Cancelled(message="Cancelled in the dashboard."), force=True
                )
        if not self.closed.wait(LEAVE_SECONDS) and own_process():
            leave()


def own_process() -> bool:
    """Whether this process is the run's alone: Prefect's engine, or a command of this project."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec is not None and str(spec.name).startswith(("prefect.", "pipelines."))


def leave() -> None:
    """End this process now, with what the run has logged at the server; the workspace's keeper puts params.yaml in order."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    for worker in (APILogWorker, EventsWorker):
        with suppress(Exception):
            worker.drain_all(timeout=1)
    os._exit(0)
