"""A Ray of two nodes on this machine: a head and a worker node, each a raylet of its own with one CPU."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from tests.chaos.processes import below, kill, title, wait_for

SETTINGS = {
    "RAY_health_check_period_ms": "1000",  # a lost node is known after some 5 s rather than 15
    "RAY_worker_niceness": "0",
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}
UP_SECONDS = 120.0
WORK = ("ray::Mapper", "ray::RayTrainWorker", "ray::TrainController", "ray::PlacementGroupCleaner")
"""Titles of processes that work for a driver, and end with it."""


class TwoNodes:
    """Start both, know their processes, replace the second, stop both."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="nodes", dir="/tmp"))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"
        token = self.folder / "token"
        token.write_text(os.urandom(32).hex())
        self.environment = SETTINGS | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
        port = self.address.rpartition(":")[2]
        self.head = self._start(
            "head", "--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={self.folder}"
        )
        self.node = self._start("node", f"--address={self.address}")

    def _start(self, name: str, *options: str) -> "subprocess.Popen[bytes]":
        log = self.folder / f"{name}.log"
        command = [
            str(Path(sys.executable).with_name("ray")), "start", "--block", "--num-cpus=1", "--node-ip-address=127.0.0.1",
            "--object-store-memory=80000000", "--disable-usage-stats", *options,
        ]  # fmt: skip
        with log.open("wb") as out:
            process = subprocess.Popen(
                command,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=os.environ | self.environment,
            )
        up = wait_for(
            lambda: b"Ray runtime started" in log.read_bytes() or process.poll() is not None, UP_SECONDS
        )
        assert up and process.poll() is None, log.read_text()
        return process

    def raylet(self, node: "subprocess.Popen[bytes]") -> int:
        """The raylet of a node."""
        return next(pid for pid in below(node.pid) if "/raylet" in title(pid).split(" ")[0])

    def working(self, *titles: str) -> list[int]:
        """Processes at work for a driver, on either node."""
        pids = [pid for node in (self.head, self.node) for pid in below(node.pid)]
        return [pid for pid in pids if title(pid).startswith(titles or WORK)]

    def ensure_node(self) -> None:
        """Start the second node anew if it was lost."""
        raylets = [pid for pid in below(self.node.pid) if "/raylet" in title(pid).split(" ")[0]]
        if self.node.poll() is None and raylets:
            return
        self._end(self.node)
        self.node = self._start("node", f"--address={self.address}")

    def _end(self, process: "subprocess.Popen[bytes]") -> None:
        pids = below(process.pid)
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGTERM)
        wait_for(lambda: process.poll() is not None, 10)
        for pid in [*pids, process.pid]:
            kill(pid)
        process.wait()

    def left(self) -> list[int]:
        """Processes that know this cluster's folder or address, other than this one."""
        from tests.chaos.processes import everybody

        return [
            pid
            for pid in everybody()
            if (str(self.folder) in title(pid) or self.address in title(pid)) and pid != os.getpid()
        ]

    def stop(self) -> list[int]:
        """Stop both nodes; the processes that are left all the same."""
        self._end(self.node)
        self._end(self.head)
        wait_for(lambda: not self.left(), 15)
        return self.left()
