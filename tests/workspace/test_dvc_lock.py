"""A lock file that DVC left half written is removed, and no other."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from dvc.lock import make_lock
from dvc.repo import Repo
from dvc.rwlock import RWLockFileCorruptedError, rwlock

from pipelines.dag import read_dag
from pipelines.errors import RefusedError
from tests.committed import ROOT
from workspace.dvc_lock import RWLOCK, mend

WHOLE = json.dumps({"read": {}, "write": {"a": {"pid": 1, "cmd": "dvc repro"}}})


def of_dvc(folder: Path) -> None:
    """What each command of DVC does around a stage."""
    from dvc.fs import localfs

    with rwlock(str(folder), localfs, "dvc repro", [], [str(folder / "out")], False):
        pass


@pytest.mark.parametrize("written", [0, 1, 20, len(WHOLE) - 1])
def test_dvc_works_again_after_a_torn_file_was_removed(written: int, tmp_path: Path) -> None:
    path = tmp_path / "rwlock"
    path.write_text(WHOLE[:written], encoding="utf-8")
    with pytest.raises(RWLockFileCorruptedError, match="JSON structure is corrupted"):
        of_dvc(tmp_path)
    assert mend(path)
    of_dvc(tmp_path)
    assert not mend(path)


def test_a_whole_file_and_one_that_dvc_is_writing_stay(tmp_path: Path) -> None:
    path = tmp_path / "rwlock"
    assert not mend(path)
    path.write_text(WHOLE, encoding="utf-8")
    assert not mend(path)
    assert path.read_text(encoding="utf-8") == WHOLE
    path.write_text("", encoding="utf-8")
    with make_lock(str(tmp_path / "rwlock.lock"), tmp_dir=str(tmp_path)):
        assert not mend(path)
    assert mend(path)


def test_make_repro_mends_it_when_it_starts_and_when_it_ends(tmp_path: Path) -> None:
    torn = tmp_path / RWLOCK
    torn.parent.mkdir(parents=True)
    wrapped = [
        line for line in (ROOT / "Makefile").read_text(encoding="utf-8").splitlines() if "$(MEND)" in line
    ]
    assert (
        wrapped == [wrapped[0]] and wrapped[0].count("$(MEND)") == 2 and wrapped[0].startswith("WITH_RAY = ")
    )
    shell = (
        wrapped[0].partition(" = ")[2].replace("$(MEND)", f"{sys.executable} -m workspace.dvc_lock --quiet")
    )
    shell = shell.replace("python -m cluster.head", "echo head")
    torn.touch()
    line = f"{shell} test ! -e {RWLOCK} && touch {RWLOCK}"  # in the place of DVC, which is stopped while it writes
    done = subprocess.run(
        ["bash", "-c", line], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert not torn.exists(), done.stderr
    assert done.stderr.count("removed, so that DVC works again") == 2


def test_a_flow_names_the_command(tmp_path: Path) -> None:
    Repo.init(str(tmp_path), no_scm=True)
    stage = "stages: {shard: {cmd: python -m stages.shard, outs: [out]}}"
    (tmp_path / "dvc.yaml").write_text(stage, encoding="utf-8")
    (tmp_path / RWLOCK).touch()
    with pytest.raises(RefusedError, match="corrupted.*`python -m workspace.dvc_lock` removes it"):
        read_dag(tmp_path)
