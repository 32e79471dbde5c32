"""A flow looks for what its stages read before DVC removes their outputs."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("dvc", reason="DVC is not installed")

from pipelines.dag import RefusedError, read_dag  # noqa: E402  (needs DVC)


def test_what_a_stage_reads_and_nobody_makes_is_missed_before_dvc_removes_anything(project: Path) -> None:
    subprocess.run([Path(sys.executable).with_name("dvc"), "repro", "-q"], check=True, capture_output=True)
    (project / "letters.txt").unlink()  # what a stage makes, it makes again
    assert {step.name for step in read_dag(project)} == {"letters", "count", "other"}
    (project / "input.txt").rename(project / "moved.txt")
    for targets in ([], ["count"]):
        with pytest.raises(RefusedError, match=r"^letters reads input.txt, .* nothing was removed$"):
            read_dag(project, targets)
    assert (project / "count.txt").is_file() and [step.name for step in read_dag(project, ["other"])] == [
        "other"
    ]
