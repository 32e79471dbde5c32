"""A Ray head on this machine that all stages of a run share, because starting one takes seconds.

    python -m cluster.head start [--params params.yaml]    with --params: only if its compute section needs one
    python -m cluster.head stop | status
    python -m cluster.head clean                           remove the folders of this workspace's dead Ray sessions

No dashboard, a small object store, stopped by its own process id (never by `ray stop`, which stops all users' heads). It
requests the loopback address, but Ray uses the machine's external address if it has one; a token then protects the head.
"""

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from cluster.leftovers import place, remove_dead
from workspace.commands import parser_of
from workspace.errors import UserError, mistakes_in_one_line
from workspace.exact.manifest import read_json, write_json
from workspace.progress import say
from workspace.settings import Compute, read_section

STATE, LOG, TOKEN = Path(".runs/ray_head.json"), Path(".runs/ray_head.log"), Path(".runs/ray_token")
START_SECONDS = 60.0
STOP_SECONDS = 10.0
HEAD_SETTINGS = {
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
    "RAY_worker_niceness": "0",
    "RAY_prestart_worker_first_driver": "0",
}
"""Ray need not wait half a minute for running work, because a head is stopped only when nothing runs on it. Workers get the
priority of the command that started the head, because at Ray's default of 15 less they starve beside other work. No worker is
prestarted, because it would lack the environment that a stage gives its workers."""


def token_environment() -> dict[str, str]:
    """The environment variables (the token) that a process must set before importing Ray, to connect to the head."""
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(TOKEN.resolve())}


def _make_token() -> None:
    """Write a secret of 32 bytes that only this user can read."""
    TOKEN.unlink(missing_ok=True)
    TOKEN.touch(mode=0o600)
    TOKEN.write_text(secrets.token_hex(32), encoding="ascii")


def running_head() -> str | None:
    """The address of the head started here, if it answers; else None."""
    if not STATE.is_file():
        return None
    address = str(read_json(STATE)["address"])
    return address if answers(address) else None


def answers(address: str) -> bool:
    """Whether something listens at HOST:PORT."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=1.0).close()
    except OSError:
        return False
    return True


def start() -> str:
    """Start a head, wait until it answers, and return its address; a running head is reused.

    Raises:
        UserError: Ray is not installed, or the head did not start; the error names its log.
    """
    found = running_head()
    if found is not None:
        return found
    program = Path(sys.executable).with_name("ray")
    if not program.is_file():
        raise UserError(f'{program} is missing: pip install "ray[train]", or set compute.workers: 0')
    STATE.parent.mkdir(exist_ok=True)
    remove_dead()
    port = _free_port()
    _make_token()
    command = [
        str(program), "start", "--head", "--block", f"--port={port}", "--node-ip-address=127.0.0.1",
        f"--temp-dir={place()}", "--include-dashboard=false", "--object-store-memory=100000000", "--disable-usage-stats",
        "--no-monitor", "--include-log-monitor=false",
    ]  # fmt: skip
    with LOG.open("wb") as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=os.environ | HEAD_SETTINGS | token_environment(),
        )
    address = f"127.0.0.1:{port}"
    try:
        _wait_until_up(process)
    except BaseException:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        raise
    write_json(STATE, {"pid": process.pid, "address": address})
    return address


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_up(process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise UserError(f"the Ray head ended with status {process.returncode}; see {LOG}")
        if b"Ray runtime started" in LOG.read_bytes():
            return
        time.sleep(0.1)
    raise UserError(f"the Ray head was not up within {START_SECONDS:.0f} s; see {LOG}")


def stop() -> bool:
    """Stop the head started here and all of its processes; False if none answers."""
    address = running_head()
    if address is not None:
        pid: int = read_json(STATE)["pid"]
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while answers(address) and time.monotonic() < deadline:
            time.sleep(0.1)
        with suppress(ProcessLookupError):  # the processes may have ended by themselves
            os.killpg(pid, signal.SIGKILL)
        remove_dead(of=pid)
    STATE.unlink(missing_ok=True)
    return address is not None


def wanted(params: Path) -> bool:
    """Whether a params file's run computes on this machine's Ray.

    Raises:
        UserError: the file has a mistake.
    """
    compute = read_section(params, Compute)
    return compute.workers > 0 and compute.ray_address == "local"


def main() -> None:
    """The command line."""
    parser = parser_of(
        "cluster.head", "One Ray head for all stages: start or stop it, show it, or clean up after dead ones."
    )
    parser.add_argument("command", choices=("start", "stop", "status", "clean"))
    parser.add_argument(
        "--params", type=Path, help="start one only if the compute section of this file needs it"
    )
    arguments = parser.parse_args()
    with mistakes_in_one_line():
        if arguments.command == "start":
            if arguments.params is None or wanted(arguments.params):
                say(f"Ray head at {start()}")
        elif arguments.command == "stop":
            if stop():
                say("stopped the Ray head")
        elif arguments.command == "clean":
            say(f"removed {remove_dead()} dead Ray sessions of this workspace")
        else:
            say(f"Ray head at {running_head()}" if running_head() else "no Ray head of ours is running")


if __name__ == "__main__":
    main()
