"""How a stage starts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.committed import ROOT

WATCHER = """
import atexit, gc, sys
said = []
def watch(event, arguments):
    if event == "import" and arguments[0] == "workflow.running" and not said:
        said.append(gc.isenabled())
sys.addaudithook(watch)
atexit.register(lambda: print(*said, gc.isenabled(), file=sys.stderr))
"""
"""As sitecustomize: tells whether garbage is collected while a stage's modules are imported, and at the end."""


def collecting(folder: Path, *command: str) -> str:
    """What the watcher says of a Python command."""
    (folder / "sitecustomize.py").write_text(WATCHER, encoding="utf-8")
    env = os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=env, capture_output=True, text=True, check=True
    )
    return done.stderr.strip().splitlines()[-1]


def test_no_garbage_is_looked_for_while_a_stage_imports_and_it_is_afterwards(tmp_path: Path) -> None:
    assert collecting(tmp_path, "-m", "stages.shard", "--help") == "False True"
    assert collecting(tmp_path, "-m", "experiments.arm", "--help") == "False True"


def test_a_command_that_imported_triton_ends_in_silence(tmp_path: Path) -> None:
    """Its binding lists on stderr what is left at the end."""
    pytest.importorskip("triton", reason="Triton is for Linux on x86-64")
    code = "from workspace import garbage; garbage.wait(); import triton; garbage.collect()"
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""


def test_who_imports_a_stage_keeps_the_collector(tmp_path: Path) -> None:
    assert collecting(tmp_path, "-c", "import stages.shard") == "True True"
    assert collecting(tmp_path, "-c", "import experiments.arm") == "True True"
