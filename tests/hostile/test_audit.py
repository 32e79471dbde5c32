"""What no file of ours may do, looked up in the code; and that the guard of the workflow's tests sees what it must."""

import ast
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.committed import ROOT
from tests.hostile.guard import LOG, folder
from workspace.code import PACKAGES

OURS = (*PACKAGES, "pipelines")
FILES = sorted(path for name in OURS for path in (ROOT / name).rglob("*.py"))
PICKLES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
NETWORK = {
    "urllib",
    "http",
    "requests",
    "httpx",
    "aiohttp",
    "ftplib",
    "smtplib",
    "telnetlib",
    "xmlrpc",
    "socketserver",
}
DOWNLOADS = {"evaluation/features/inception.py", "pipelines/dashboard.py", "pipelines/interrupted.py"}
WEIGHTS_OF_OTHERS = {"evaluation/perceptual/backbones.py", "evaluation/features/efficientnet.py"}
"""What reads a file of weights that somebody else published, as tensors alone, after its SHA-256 was checked."""
"""Files that may fetch what a setting asks for, from the address that they name; the dashboard's two ask its own server."""


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """Every call of a file: its name as written, and itself."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def imports(path: Path) -> set[str]:
    """Top-level names of what a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            found.add(node.module.split(".")[0])
    return found


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def keywords(call: ast.Call) -> dict[str | None, str]:
    return {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_pickle_is_read_and_no_text_is_run(path: Path) -> None:
    assert not imports(path) & PICKLES
    assert "import yaml" not in path.read_text(encoding="utf-8") or "yaml.load(" not in path.read_text(
        encoding="utf-8"
    )
    for name, call in calls(path):
        assert name not in (
            "eval",
            "exec",
            "compile",
            "yaml.unsafe_load",
            "yaml.full_load",
            "torch.jit.load",
        ), name
        if name in ("np.load", "numpy.load"):
            assert keywords(call).get("allow_pickle") == "False", ast.unparse(call)
        if name == "torch.load":
            assert name_of(path) in WEIGHTS_OF_OTHERS and keywords(call).get("weights_only") == "True"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_process_is_started_through_a_shell(path: Path) -> None:
    for name, call in calls(path):
        assert name not in ("os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"), (
            name
        )
        if name.startswith("subprocess."):
            assert keywords(call).get("shell", "False") == "False", ast.unparse(call)
            assert not call.args or not isinstance(call.args[0], (ast.Constant, ast.JoinedStr)), ast.unparse(
                call
            )


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_nothing_listens_for_others_and_only_downloads_that_a_setting_asks_for_leave(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    others = text.replace(
        '"::" in ', ""
    )  # a URL that names several file systems is looked for, not listened at
    assert "0.0.0.0" not in text and '"::"' not in others
    outside = imports(path) & NETWORK
    assert not outside or name_of(path) in DOWNLOADS or outside == {"urllib"} and "urlopen" not in text, (
        outside
    )


def test_the_commands_of_the_workflow_hold_no_value_of_params() -> None:
    for name in ("dvc.yaml", "demo/dvc.yaml"):
        for stage in yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))["stages"].values():
            assert "$" not in stage["cmd"] and ";" not in stage["cmd"] and "|" not in stage["cmd"], stage[
                "cmd"
            ]


def test_the_guard_ends_a_connection_a_look_up_and_a_listener_in_any_child(tmp_path: Path) -> None:
    script = (
        "import socket, subprocess, sys\nsubprocess.run([sys.executable, '-c', sys.argv[1]], check=True)\n"
    )
    child = (
        "import socket\n"
        "for work in (lambda: socket.socket().connect(('192.0.2.1', 9)), lambda: socket.getaddrinfo('example.org', 80),\n"
        "             lambda: socket.socket().bind(('', 0))):\n"
        "    try: work()\n"
        "    except PermissionError: continue\n"
        "    raise SystemExit('it went through')\n"
        "socket.socket().bind(('127.0.0.1', 0))\n"
    )
    log = tmp_path / "log"
    environment = os.environ | {"PYTHONPATH": str(folder(tmp_path / "guard")), LOG: str(log)}
    subprocess.run([sys.executable, "-c", script, child], env=environment, check=True)
    told = log.read_text(encoding="utf-8")
    assert [
        word in told
        for word in ("socket.connect 192.0.2.1:9", "socket.getaddrinfo example.org", "socket.bind :0")
    ] == [True] * 3
    assert socket.getdefaulttimeout() is None
