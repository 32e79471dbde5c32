"""The Prefect dashboard of this workspace: a server and a worker on loopback, the flows of prefect.yaml, its reports.

    python -m pipelines.dashboard [--port 4200]      until Ctrl-C; `make dashboard` calls it

Everything it keeps is in .runs/prefect, apart from any other Prefect on this machine. One runs in a workspace at a time. A
worker that dies is noticed: what it left running is ended, its runs are marked as crashed, and another starts. What the end of
the dashboard interrupts, kill -9 too, continues from its last checkpoint when the dashboard is started again.
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
"""How long the processes of a dashboard that was killed may take to end, which their guard sees to."""


class DashboardError(RuntimeError):
    """The dashboard cannot start or continue; one line."""


@dataclass
class Dashboard:
    """The processes of a dashboard.

    Attributes:
        port: of the server.
        root: the workspace.
        servers: the lock that lives as long as the guard of its processes.
        mark: what all its processes have in their environment.
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
        """The address of its API."""
        return f"{self.url}/api"

    @property
    def environment(self) -> dict[str, str]:
        """Prefect's settings for this workspace alone; prefect.toml has those that do not depend on the machine."""
        return environment(self.root, self.api) | {
            "PREFECT_UI_API_URL": "/api",  # the browser may know this machine by another name or port
            "PREFECT_UI_STATIC_DIRECTORY": str(self.root / HOME / "ui"),
            "PREFECT_WORKER_QUERY_SECONDS": "2",
            "PREFECT_SERVER_SERVICES_LATE_RUNS_ENABLED": "false",  # a run that waits for another is not late
            "PREFECT_WORKER_HEARTBEAT_SECONDS": "5",
            "MQVAE_WORKSPACE": str(self.root),
        }

    def start(self, name: str, *command: str, mark: str) -> None:
        """Start one of the processes, its output in .runs/prefect/NAME.log, all its descendants marked."""
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
        """Start the server under a guard, which ends it and the worker too when this process dies; wait until it answers.

        Raises:
            DashboardError: the port is taken, or it ended, or it is not up in time.
        """
        if reason := refusal(self.port):
            raise DashboardError(
                f"port {self.port} {reason}: end what has it, or take another: make dashboard PORT=4300"
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
        """Until the server ends: whatever becomes of the worker, there is one.

        Raises:
            DashboardError: the server ended.
        """
        while True:
            time.sleep(WATCH_SECONDS)
            os.utime(self.root / LOCK)  # when it was last seen alive
            if (status := self.processes["server"].poll()) is not None:
                log = self.root / HOME / "server.log"
                raise DashboardError(f"Prefect's server ended with status {status}; see {log}")
            if (status := self.processes["worker"].poll()) is not None:
                say(f"the worker ended with status {status}: its runs are marked as crashed, another starts")
                lost = running(self.api)  # asked first: a run that is ended may yet say so in its own words
                end_tree(self.worker_mark)
                restore(self.root)
                mark_crashed(self.api, lost)
                self.start_worker()
            bury(self.api, self.root)

    def end(self) -> None:
        """End all processes, the worker and what it runs first."""
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
            return "is taken" if error.errno == errno.EADDRINUSE else f"cannot be had ({error.strerror})"
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
    """One line to whoever watches."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


@contextmanager
def alone(root: Path, port: int) -> Iterator[float | None]:
    """Be the one dashboard of a workspace while the block runs; yields when the last one was seen alive, in epoch seconds.

    Raises:
        DashboardError: another runs, or is starting.
    """
    last_seen = (root / LOCK).stat().st_mtime if (root / LOCK).is_file() else None
    with lock(root / LOCK) as file:
        if file is None:
            there = (root / LOCK).read_text(
                encoding="utf-8"
            ).strip() or "an address that it does not know yet"
            raise DashboardError(f"the dashboard of this workspace is already running at {there}")
        file.truncate(0)
        file.write(address(port))
        file.flush()
        (root / STATE).unlink(missing_ok=True)
        yield last_seen


@contextmanager
def ended_servers(root: Path) -> Iterator[IO[str]]:
    """Wait until nothing of a dashboard that was killed is left; the lock that this one's guard will hold.

    Raises:
        DashboardError: it does not end.
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
    """Start everything and watch it, until a signal ends this process.

    Args:
        port: of the server.
        root: the workspace.
        resume: whether runs that the last dashboard's end interrupted continue; otherwise they are marked as crashed.

    Raises:
        DashboardError: in one line.
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
    """Write a file that is there whole, or as it was before."""
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps(state), encoding="utf-8")
    beside.replace(path)


def port_number(text: str) -> int:
    """A port as it is typed; 0 takes a free one."""
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
        "--port", type=port_number, default=4200, help="of the server, on 127.0.0.1 (4200); 0: a free one"
    )
    parser.add_argument(
        "--no-resume",
        action="store_true",
        help="runs that the last dashboard's end interrupted do not continue",
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
