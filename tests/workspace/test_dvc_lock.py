"""A lock file that DVC left half written is removed, and no other."""

import json
from pathlib import Path

import pytest
from dvc.lock import make_lock
from dvc.rwlock import RWLockFileCorruptedError, rwlock

from cluster import head
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


@pytest.mark.parametrize("command", ["start", "stop"])
def test_make_repro_mends_it_when_it_starts_and_when_it_ends(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert f"python -m cluster.head {command}" in recipe
    torn = tmp_path / RWLOCK
    torn.parent.mkdir(parents=True)
    torn.touch()
    monkeypatch.setattr(head, "wanted", lambda params: False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["head", command, "--params", "params.yaml"])
    head.main()
    assert not torn.exists()
