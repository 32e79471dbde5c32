"""The Prefect dashboard of this workspace: a server and a worker on loopback, the flows of prefect.yaml, its reports.

    python -m pipelines.dashboard [--port 4200]      until Ctrl-C; `make dashboard` calls it

Everything it keeps is in .runs/prefect, apart from any other Prefect on this machine. A worker that dies is noticed: what it
left running is ended, its runs are marked as crashed, and another starts; their next run goes on from the last checkpoint.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import FrameType
from urllib.parse import unquote
from uuid import UUID, uuid4

from pipelines.guard import MARK, end_tree
from pipelines.server import HOME, STATE

BIN = Path(sys.executable).parent
POOL = "mqvae"
START_SECONDS = 180.0
WATCH_SECONDS = 1.0


class DashboardError(RuntimeError):
    """The dashboard cannot start or go on; one line."""


@dataclass
class Dashboard:
    """The processes of a dashboard.

    Attributes:
        port: of the server.
        root: the workspace.
    """

    port: int
    root: Path
    marks: dict[str, str] = field(default_factory=dict)
    processes: "dict[str, subprocess.Popen[bytes]]" = field(default_factory=dict)

    @property
    def url(self) -> str:
        """The server's address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def api(self) -> str:
        """The address of its API."""
        return f"{self.url}/api"

    @property
    def environment(self) -> dict[str, str]:
        """Prefect's settings for this workspace alone; prefect.toml has those that do not depend on the machine."""
        return os.environ | {
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(self.root),
            "PREFECT_HOME": str(self.root / HOME),
            "PREFECT_API_URL": self.api,
            "PREFECT_WORKER_QUERY_SECONDS": "2",
            "PREFECT_WORKER_HEARTBEAT_SECONDS": "5",
            "PREFECT_CLI_PROMPT": "false",
            "MQVAE_WORKSPACE": str(self.root),
        }

    def start(self, name: str, *command: str) -> None:
        """Start one of the processes, its output in .runs/prefect/NAME.log, all its descendants marked."""
        self.marks[name] = uuid4().hex
        with (self.root / HOME / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [str(BIN / command[0]), *command[1:]],
                cwd=self.root,
                env=self.environment | {MARK: self.marks[name]},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def start_server(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            DashboardError: the port is taken, or it ended, or it is not up in time.
        """
        if _taken(self.port):
            raise DashboardError(f"port {self.port} is taken: end what has it, or take --port ANOTHER")
        self.start("server", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(self.port))
        deadline = time.monotonic() + START_SECONDS
        while not _healthy(self.url):
            status = self.processes["server"].poll()
            if status is not None or time.monotonic() > deadline:
                ended = "is not up in time" if status is None else f"ended with status {status}"
                raise DashboardError(f"Prefect's server {ended}; see {self.root / HOME / 'server.log'}")
            time.sleep(0.2)

    def deploy(self) -> None:
        """Make the work pool, and apply prefect.yaml.

        Raises:
            DashboardError: Prefect refuses.
        """
        for command in (
            ("work-pool", "create", POOL, "--type", "process", "--overwrite"),
            ("--no-prompt", "deploy", "--all"),
        ):
            done = subprocess.run(
                [str(BIN / "prefect"), *command],
                cwd=self.root,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
            )
            (self.root / HOME / "deploy.log").write_text(done.stdout + done.stderr, encoding="utf-8")
            if done.returncode:
                raise DashboardError(
                    f"prefect {' '.join(command)} failed; see {self.root / HOME / 'deploy.log'}"
                )

    def start_worker(self) -> None:
        """Start the worker, which runs the flows as processes."""
        pool = ("--pool", POOL, "--type", "process", "--name", "workspace")
        self.start("worker", "prefect", "worker", "start", *pool)

    def watch(self) -> None:
        """Until the server ends: whatever becomes of the worker, there is one.

        Raises:
            DashboardError: the server ended.
        """
        while True:
            time.sleep(WATCH_SECONDS)
            if (status := self.processes["server"].poll()) is not None:
                raise DashboardError(
                    f"Prefect's server ended with status {status}; see {self.root / HOME / 'server.log'}"
                )
            if (status := self.processes["worker"].poll()) is not None:
                say(f"the worker ended with status {status}: its runs are marked as crashed, another starts")
                lost = running(self.api)  # asked first: a run that is ended may yet say so in its own words
                end_tree(self.marks["worker"])
                mark_crashed(self.api, lost)
                self.start_worker()

    def end(self) -> None:
        """End all processes, the worker and what it runs first."""
        for name in reversed(self.processes):
            end_tree(self.marks[name], self.processes[name].pid)
            self.processes[name].wait()


def running(api: str) -> list[UUID]:
    """Runs of deployments that a worker has."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter
    from prefect.client.schemas.objects import StateType
    from prefect.settings import PREFECT_API_URL, temporary_settings

    states = [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING]
    with temporary_settings({PREFECT_API_URL: api}), get_client(sync_client=True) as client:
        found = client.read_flow_runs(
            flow_run_filter=FlowRunFilter.model_validate({"state": {"type": {"any_": states}}})
        )
    return [run.id for run in found if run.deployment_id is not None and run.parent_task_run_id is None]


def mark_crashed(api: str, lost: Sequence[UUID]) -> None:
    """Tell the server that runs which no worker has any more have crashed, unless they came to their end before."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.objects import StateType
    from prefect.settings import PREFECT_API_URL, temporary_settings
    from prefect.states import Crashed

    told = "The worker that had this run died. Retry goes on from the last checkpoint."
    ended = {StateType.COMPLETED, StateType.FAILED, StateType.CANCELLED}
    with temporary_settings({PREFECT_API_URL: api}), get_client(sync_client=True) as client:
        for run in lost:
            if client.read_flow_run(run).state_type not in ended:
                client.set_flow_run_state(run, Crashed(message=told), force=True)


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/api/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


class Reports(SimpleHTTPRequestHandler):
    """The report folders of the workspace and of its sweeps' arms, to be read; nothing else of the disk."""

    def translate_path(self, path: str) -> str:
        """The file of a URL below a folder `artifacts/report`, or one that is not there."""
        root = Path(self.directory).resolve()
        asked = Path(os.path.normpath(root / unquote(path.partition("?")[0]).lstrip("/"))).resolve()
        within = asked.is_relative_to(root) and "artifacts/report/" in f"{asked.as_posix()}/"
        return str(asked if within and asked.is_file() else root / ".runs" / "no such report")

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing of requests."""


def serve_reports(root: Path) -> str:
    """Serve the reports on loopback, from a thread of this process; returns the address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Reports, directory=str(root)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_address[1]}"


def say(text: str) -> None:
    """One line to whoever watches."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def run(port: int, root: Path) -> None:
    """Start everything and watch it, until a signal ends this process.

    Raises:
        DashboardError: in one line.
    """
    (root / HOME).mkdir(parents=True, exist_ok=True)
    dashboard = Dashboard(port, root)
    try:
        say(f"starting Prefect's server on port {port}: some seconds")
        dashboard.start_server()
        dashboard.deploy()
        mark_crashed(
            dashboard.api, running(dashboard.api)
        )  # what an earlier dashboard left when it was killed
        dashboard.start_worker()
        state = {
            "port": port,
            "ui": dashboard.url,
            "api": f"{dashboard.url}/api",
            "reports": serve_reports(root),
        }
        _write(root / STATE, state)
        say(f"the dashboard: {dashboard.url}/deployments   (Ctrl-C ends it)")
        dashboard.watch()
    finally:
        (root / STATE).unlink(missing_ok=True)
        dashboard.end()


def _write(path: Path, state: Mapping[str, object]) -> None:
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps(state), encoding="utf-8")
    beside.replace(path)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.dashboard",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--port", type=int, default=4200, help="of the server, on 127.0.0.1 (4200)")
    port = parser.parse_args().port

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    try:
        run(port, Path().resolve())
    except KeyboardInterrupt:
        say(
            "the dashboard has ended; what was running goes on from its last checkpoint when it is started again"
        )
    except DashboardError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
