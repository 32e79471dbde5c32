"""One Ray head for all stages of a run, on this machine: starting one takes seconds, so stages share it.

    python -m cluster.head start | stop | status

No dashboard, a small object store, loopback, stopped by its own process id (never `ray stop`, which would end others').
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from workspace.errors import UserError
from workspace.manifest import read_json, write_json
from workspace.progress import say

STATE, LOG = Path(".runs/ray_head.json"), Path(".runs/ray_head.log")
START_SECONDS = 60.0
STOP_SECONDS = 20.0


def running_head() -> str | None:
    """The address of the head that was started here and lives, or None."""
    if not STATE.is_file():
        return None
    state = read_json(STATE)
    return str(state["address"]) if _alive(state["pid"]) else None


def _alive(pid: int) -> bool:
    """Whether this process id is a Ray head of ours (a zombie or another program under a reused id is not)."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return b"--head" in command


def start() -> str:
    """Start a head, wait until it answers, and return its address; one that lives is taken as it is.

    Raises:
        UserError: it did not come up; its log is named.
    """
    found = running_head()
    if found is not None:
        return found
    STATE.parent.mkdir(exist_ok=True)
    port = _free_port()
    command = [
        str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", f"--port={port}",
        "--node-ip-address=127.0.0.1", "--include-dashboard=false", "--object-store-memory=100000000",
        "--disable-usage-stats",
    ]  # fmt: skip
    with LOG.open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    address = f"127.0.0.1:{port}"
    _wait_until_up(process, port)
    write_json(STATE, {"pid": process.pid, "address": address})
    return address


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_up(process: "subprocess.Popen[bytes]", port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise UserError(f"the Ray head ended with status {process.returncode}; see {LOG}")
        if b"Ray runtime started" in LOG.read_bytes():
            return
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGKILL)
    raise UserError(f"the Ray head did not answer at port {port} within {START_SECONDS:.0f} s; see {LOG}")


def stop() -> bool:
    """Stop the head that was started here; False if there is none."""
    if running_head() is None:
        STATE.unlink(missing_ok=True)
        return False
    pid: int = read_json(STATE)["pid"]
    os.killpg(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while _group_lives(pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    if _group_lives(pid):
        os.killpg(pid, signal.SIGKILL)
    STATE.unlink()
    return True


def _group_lives(pid: int) -> bool:
    """Whether the head's first process still runs."""
    return _alive(pid)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m cluster.head", description="One Ray head for all stages."
    )
    parser.add_argument("command", choices=("start", "stop", "status"))
    command = parser.parse_args().command
    try:
        if command == "start":
            say(f"Ray head at {start()}")
        elif command == "stop":
            say("stopped the Ray head" if stop() else "no Ray head of ours is running")
        else:
            say(f"Ray head at {running_head()}" if running_head() else "no Ray head of ours is running")
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
