"""How a stage starts."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STARTED = """
import gc, sys
del sys.argv[0]
import stages
said = [gc.isenabled()]
from workspace.stage import run_stage
sys.argv = ["shard", "--help"]
try:
    run_stage("shard")
except SystemExit:
    said.append(gc.isenabled())
print(*said, file=sys.stderr)
"""


def garbage(first: str) -> str:
    """Whether garbage is collected once the package is imported, and once the stage has read its options."""
    command = [sys.executable, "-c", STARTED, first]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stderr.strip()


def test_no_garbage_is_looked_for_while_a_stage_imports_and_it_is_afterwards() -> None:
    assert garbage("-m") == "False True"


def test_who_imports_a_stage_keeps_the_collector() -> None:
    assert garbage("some/program.py") == "True True"
