"""Where the long suites write what they found: docs/results/NAME, with the commit and the command."""

import subprocess
from typing import Any

from tests.committed import ROOT
from workspace.exact.manifest import write_json

RESULTS = ROOT / "docs" / "results"


def commit() -> str:
    """The commit that is checked out here."""
    return subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()


def write_results(name: str, found: dict[str, Any], command: str) -> None:
    """Write a result."""
    write_json(RESULTS / name, {**found, "commit": commit(), "command": command})
