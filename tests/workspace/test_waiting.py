"""Beside other work OpenMP's threads sleep while they wait; on a quiet machine, or if the user says otherwise, nothing is set."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.committed import ROOT
from workspace.waiting import ASKED, POLICY, wait_by_load


@pytest.mark.parametrize(
    ("load", "given", "set_to"),
    [
        (0.1, {}, None),
        (1.4, {}, None),  # the stage before has just ended
        (1.6, {}, "PASSIVE"),
        (9.0, {"GOMP_SPINCOUNT": "7"}, None),
        (9.0, {POLICY: "ACTIVE"}, "ACTIVE"),
    ],
)
def test_threads_sleep_beside_other_work(
    load: float, given: dict[str, str], set_to: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ASKED:
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    before = dict(os.environ)
    monkeypatch.setattr(os, "getloadavg", lambda: (load * (os.cpu_count() or 1), 0.0, 0.0))
    monkeypatch.setattr(os, "environ", before)
    wait_by_load()
    assert before.get(POLICY) == set_to


def test_a_stage_decides_it_before_torch_is_imported(tmp_path: Path) -> None:
    line = (
        "import os, sys; sys.argv = ['-m']; os.getloadavg = lambda: (1e9, 0, 0); import stages; "
        "print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules, 'numpy' in sys.modules)"
    )
    quiet = {name: value for name, value in os.environ.items() if name not in ASKED}
    quiet["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(
        [sys.executable, "-c", line], cwd=tmp_path, env=quiet, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["PASSIVE", "False", "False"]
