"""Whose Prefect a run uses, and that one dashboard has a workspace at a time; no server is started here."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipelines.home import LOCK, STATE, dashboard, environment, lock, locked
from tests.committed import ROOT
from tests.waiting import slowness


def command(folder: Path, module: str, *arguments: str, **env: str) -> "subprocess.CompletedProcess[str]":
    """A command of this project, in a folder."""
    return subprocess.run(
        [sys.executable, "-m", f"pipelines.{module}", *arguments],
        cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)} | env, capture_output=True, text=True, check=False,
        timeout=120 * slowness(),
    )  # fmt: skip


@pytest.mark.parametrize("api", [None, "http://127.0.0.1:4321/api"])
def test_nothing_of_the_users_own_prefect_is_in_a_runs_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, api: str | None
) -> None:
    for name in (
        "PREFECT_API_URL",
        "PREFECT_API_KEY",
        "PREFECT_PROFILE",
        "PREFECT_API_AUTH_STRING",
        "prefect_home",
    ):
        monkeypatch.setenv(name, "the user's")
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", "intranet.example")
    monkeypatch.delenv("NO_PROXY", raising=False)
    found = environment(tmp_path / "a workspace", api)
    ours = {name: value for name, value in found.items() if name.upper().startswith("PREFECT_")}
    assert "the user's" not in ours.values()
    assert ours["PREFECT_HOME"] == str(tmp_path / "a workspace" / ".runs" / "prefect")
    assert (ours["PREFECT_API_URL"], ours["PREFECT_SERVER_ALLOW_EPHEMERAL_MODE"]) == (
        ("", "true") if api is None else (api, "false")
    )
    assert found["HTTP_PROXY"] == "http://proxy.example:3128", "a stage may need it"
    assert found["NO_PROXY"] == found["no_proxy"] == "intranet.example,127.0.0.1,localhost,::1"


def test_a_choice_that_is_none_is_told(tmp_path: Path) -> None:
    done = command(tmp_path, "reproduce", MQVAE_PREFECT="yours")
    assert done.returncode == 1
    assert (
        done.stderr
        == "MQVAE_PREFECT=yours: expected mine (your own Prefect profile), or nothing (this project's)\n"
    )


def test_a_lock_is_its_holders_and_free_when_that_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not locked(path)
    code = "import sys, time\nfrom pathlib import Path\nfrom pipelines.home import lock\n"
    code += "with lock(Path('lock')) as file:\n    print(file is not None, flush=True)\n    time.sleep(600)\n"
    holder = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None and holder.stdout.readline() == b"True\n"
    assert locked(path)
    with lock(path) as file:
        assert file is None
    os.kill(holder.pid, signal.SIGKILL)
    holder.communicate()
    assert not locked(path) and path.is_file(), "the file that a kill leaves is not an obstacle"
    with lock(path) as file:
        assert file is not None


def test_a_second_dashboard_is_refused_with_the_address_of_the_first_and_leaves_it_alone(
    tmp_path: Path,
) -> None:
    (tmp_path / LOCK).parent.mkdir(parents=True)
    (tmp_path / LOCK).write_text("http://127.0.0.1:4321")
    (tmp_path / STATE).write_text('{"api": "http://127.0.0.1:4321/api"}')
    assert dashboard(tmp_path) is None, "a dashboard that was killed is none"
    with lock(tmp_path / LOCK):
        assert dashboard(tmp_path) == {"api": "http://127.0.0.1:4321/api"}
        for port in ("4321", "0"):
            done = command(tmp_path, "dashboard", "--port", port)
            assert (done.returncode, done.stdout) == (1, "")
            assert (
                done.stderr == "the dashboard of this workspace is already running at http://127.0.0.1:4321\n"
            )
        (tmp_path / STATE).unlink()  # it is just starting
        began = time.monotonic()
        assert dashboard(tmp_path, wait=0.3) is None and time.monotonic() - began >= 0.3


def test_a_port_that_something_else_has_or_that_is_none_is_told(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = command(tmp_path, "dashboard", "--port", str(port))
    assert done.returncode == 1
    assert (
        done.stderr
        == f"port {port} is taken: stop the program that uses it, or choose another: make dashboard PORT=4300\n"
    )
    assert not locked(tmp_path / LOCK)
    for wrong in ("99999", "-1", "http"):
        done = command(tmp_path, "dashboard", f"--port={wrong}")
        assert (
            done.returncode == 2
            and f"{wrong} is not a port; expected 1 … 65535, or 0 for any free one" in done.stderr
        )
