"""The Prefect dashboard of this workspace: a server and a worker on loopback, the flows of prefect.yaml, its reports.

    python -m pipelines.dashboard [--port 4200]      until Ctrl-C; `make dashboard` calls it

It keeps everything in .runs/prefect, separate from any other Prefect on this machine. A workspace has at most one dashboard. If
the worker dies, its remaining processes are ended, its runs are marked as crashed, and a new worker starts. Runs interrupted by
the end of the dashboard, even by kill -9, continue from their last checkpoint when the dashboard is started again.
"""

import argparse
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO
from uuid import uuid4

from pipelines.deploying import POOL, DeployError, deploy
from pipelines.guard import MARK, end_tree
from pipelines.home import BIN, HOME, LOCK, SERVERS, START_SECONDS, STATE, adopt, environment, lock
from pipelines.interrupted import bury, mark_crashed, running, take_up
from pipelines.overrides import restore

GUARD = Path(__file__).with_name("guard.py")
WATCH_SECONDS = 1.0
MOST = 65535
ENDING_SECONDS = 60.0
"""Seconds to wait until the guard of a killed dashboard has ended its processes."""


class DashboardError(RuntimeError):
    """The dashboard cannot start or continue; one line."""


@dataclass
class Dashboard:
    """The processes of a dashboard.

    Attributes:
        port: the server's port.
        root: the workspace.
        servers: a lock held as long as the guard of its processes lives.
        mark: a value in the environment of all its processes.
    """

    port: int
    root: Path
    servers: IO[str]
    mark: str = field(default_factory=lambda: uuid4().hex)
    worker_mark: str = ""
    processes: "dict[str, subprocess.Popen[bytes]]" = field(default_factory=dict)

    @property
    def url(self) -> str:
        """The server's address."""
        return address(self.port)

    @property
    def api(self) -> str:
        """The API's address."""
        return f"{self.url}/api"

    @property
    def environment(self) -> dict[str, str]:
        """Prefect's settings for this workspace; prefect.toml has those that do not depend on the machine."""
        return (
            environment(self.root, self.api)
            | {
                "PREFECT_UI_API_URL": "/api",  # relative, because the browser may reach this machine under another name or port
                "PREFECT_UI_STATIC_DIRECTORY": str(self.root / HOME / "ui"),
                "PREFECT_WORKER_QUERY_SECONDS": "2",
                "PREFECT_SERVER_SERVICES_LATE_RUNS_ENABLED": "false",  # a run that waits for another is not late
                "PREFECT_WORKER_HEARTBEAT_SECONDS": "5",
                "MQVAE_WORKSPACE": str(self.root),
            }
        )

    def start(self, name: str, *command: str, mark: str) -> None:
        """Start one of the processes, with its output in .runs/prefect/NAME.log, and all its descendants marked."""
        with (self.root / HOME / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command,
                cwd=self.root,
                env=self.environment | {MARK: mark},
                stdin=subprocess.PIPE if str(GUARD) in command else subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=[self.servers.fileno()] if str(GUARD) in command else [],
                start_new_session=True,
            )

    def start_server(self) -> None:
        """Start the server under a guard, which ends server and worker if this process dies; wait until it answers.

        Raises:
            DashboardError: the port is taken, or the server ended or did not start in time.
        """
        if reason := refusal(self.port):
            raise DashboardError(
                f"port {self.port} {reason}: stop the program that uses it, or choose another: make dashboard PORT=4300"
            )
        site = (sys.executable, "-m", "pipelines.site", "--port", str(self.port))
        self.start("server", sys.executable, str(GUARD), self.mark, *site, mark="")
        deadline = time.monotonic() + START_SECONDS
        while not healthy(self.url):
            status = self.processes["server"].poll()
            if status is not None or time.monotonic() > deadline:
                ended = "is not up in time" if status is None else f"ended with status {status}"
                raise DashboardError(f"Prefect's server {ended}; see {self.root / HOME / 'server.log'}")
            time.sleep(0.2)

    def start_worker(self) -> None:
        """Start the worker, which runs the flows as processes."""
        self.worker_mark = uuid4().hex
        pool = ("--pool", POOL, "--type", "process", "--name", "workspace")
        self.start(
            "worker", str(BIN / "prefect"), "worker", "start", *pool, mark=f"{self.mark}:{self.worker_mark}"
        )

    def watch(self) -> None:
        """Keep a worker running until the server ends.

        Raises:
            DashboardError: the server ended.
        """
        while True:
            time.sleep(WATCH_SECONDS)
            os.utime(self.root / LOCK)  # records when the dashboard was last alive
            if (status := self.processes["server"].poll()) is not None:
                log = self.root / HOME / "server.log"
                raise DashboardError(f"Prefect's server ended with status {status}; see {log}")
            if (status := self.processes["worker"].poll()) is not None:
                say(
                    f"the worker ended with status {status}: its runs are marked as crashed, a new one starts"
                )
                # before they are ended, because a run being ended may still report its own state
                lost = running(self.api)
                end_tree(self.worker_mark)
                restore(self.root)
                mark_crashed(self.api, lost)
                self.start_worker()
            bury(self.api, self.root)

    def end(self) -> None:
        """End all processes; the worker and its runs first."""
        if worker := self.processes.get("worker"):
            end_tree(self.worker_mark, worker.pid)
            worker.wait()
        if server := self.processes.get("server"):
            assert server.stdin is not None
            with suppress(OSError):
                server.stdin.close()
            server.wait()


def address(port: int) -> str:
    """A server's address on this machine."""
    return f"http://127.0.0.1:{port}"


def refusal(port: int) -> str:
    """Why a server cannot listen on a port of loopback, or ""."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen()
        except OSError as error:
            return "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
    return ""


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
        return number


def healthy(url: str) -> bool:
    """Whether a server answers; no proxy is asked."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{url}/api/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def say(text: str) -> None:
    """Print one line for the user."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


@contextmanager
def alone(root: Path, port: int) -> Iterator[float | None]:
    """Be the workspace's only dashboard within the block; yields when the last one was alive, in epoch seconds.

    Raises:
        DashboardError: another one is running or starting.
    """
    last_seen = (root / LOCK).stat().st_mtime if (root / LOCK).is_file() else None
    with lock(root / LOCK) as file:
        if file is None:
            there = (root / LOCK).read_text(encoding="utf-8").strip() or "an address that is not known yet"
            raise DashboardError(f"the dashboard of this workspace is already running at {there}")
        file.truncate(0)
        file.write(address(port))
        file.flush()
        (root / STATE).unlink(missing_ok=True)
        yield last_seen


@contextmanager
def ended_servers(root: Path) -> Iterator[IO[str]]:
    """Wait until all processes of a killed dashboard have ended; yields the lock for this one's guard.

    Raises:
        DashboardError: they do not end.
    """
    deadline, told = time.monotonic() + ENDING_SECONDS, False
    while True:
        with lock(root / SERVERS) as file:
            if file is not None:
                yield file
                return
        if not told:
            say("the last dashboard was killed: its processes are ending")
            told = True
        if time.monotonic() > deadline:
            raise DashboardError(
                f"processes of the last dashboard do not end: `fuser {root / SERVERS}` names them"
            )
        time.sleep(0.2)


def run(port: int, root: Path, resume: bool = True) -> None:
    """Start everything and watch it until a signal ends this process.

    Args:
        port: the server's port.
        root: the workspace.
        resume: whether to continue runs interrupted by the last dashboard's end; otherwise they are marked as crashed.

    Raises:
        DashboardError: the server or worker failed; one line.
    """
    with alone(root, port) as last_seen, ended_servers(root) as servers:
        adopt(root, f"{address(port)}/api")  # before Prefect is imported, which reads its settings then
        restore(root)
        dashboard = Dashboard(port, root, servers)
        try:
            say(f"starting Prefect's server on port {port}: this takes some seconds")
            dashboard.start_server()
            deploy(dashboard.api, root, dashboard.environment)
            if resume:
                for name in take_up(dashboard.api, last_seen):
                    say(f"the run {name} continues from its last checkpoint")
            else:
                mark_crashed(dashboard.api, running(dashboard.api))
            dashboard.start_worker()
            state = {"port": port, "ui": dashboard.url, "api": dashboard.api, "process": os.getpid()}
            write(root / STATE, state)
            say(f"the dashboard: {dashboard.url}/deployments   (Ctrl-C ends it)")
            dashboard.watch()
        finally:
            (root / STATE).unlink(missing_ok=True)
            dashboard.end()
            restore(root)


def write(path: Path, state: Mapping[str, object]) -> None:
    """Write a file atomically."""
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps(state), encoding="utf-8")
    beside.replace(path)


def port_number(text: str) -> int:
    """Parse a port; 0 means any free one."""
    if not text.isdecimal() or int(text) > MOST:
        raise argparse.ArgumentTypeError(f"{text} is not a port; expected 1 … {MOST}, or 0 for any free one")
    return int(text) or free_port()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.dashboard",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--port",
        type=port_number,
        default=4200,
        help="port of the server on 127.0.0.1 (4200); 0: any free one",
    )
    parser.add_argument(
        "--no-resume",
        action="store_true",
        help="do not continue runs that were interrupted by the last dashboard's end",
    )
    given = parser.parse_args()

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    try:
        run(given.port, Path().resolve(), not given.no_resume)
    except KeyboardInterrupt:
        say(
            "the dashboard has ended; runs that were in progress continue from their last checkpoint at its next start"
        )
    except (DashboardError, DeployError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
