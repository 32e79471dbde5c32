"""Laws of Ray's session folders: the dead ones of this workspace go, everything else stays."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cluster import leftovers
from cluster.leftovers import place, remove_dead, sessions


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A workspace of its own, and so a place of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(leftovers, "PATIENCE_SECONDS", 0.3)


def session(pid: int) -> Path:
    folder = place() / f"session_2026-01-01_00-00-00_000000_{pid}"
    (folder / "logs").mkdir(parents=True)
    (folder / "logs" / "raylet.out").write_text("x")
    return folder


def ended() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_a_dead_session_goes_and_with_the_last_its_place() -> None:
    where = place()
    (where / "session_latest").symlink_to(session(ended()))
    assert remove_dead() == 1 and not where.exists()


def test_a_session_whose_starter_lives_stays() -> None:
    alive, dead = session(os.getppid()), session(ended())
    assert remove_dead() == 1
    assert sessions() == [alive] and not dead.exists()
    (alive / "logs" / "raylet.out").unlink()
    (alive / "logs").rmdir()
    alive.rmdir()
    assert remove_dead() == 0 and not alive.parent.exists()


@pytest.mark.skipif(not Path("/proc/self/cmdline").is_file(), reason="this system has no /proc")
def test_a_session_that_a_process_works_in_stays_though_its_starter_is_dead() -> None:
    folder = session(ended())
    worker = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)", f"--session-dir={folder}"]
    )
    try:
        assert remove_dead() == 0 and sessions() == [folder]
    finally:
        worker.kill()
        worker.wait()
    assert remove_dead() == 1


def test_ones_own_session_goes_once_it_is_shut_down() -> None:
    folder = session(os.getpid())
    assert remove_dead() == 0 and folder.exists()
    assert remove_dead(of=os.getpid()) == 1


def test_each_workspace_has_its_own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, other = session(ended()), tmp_path / "other"
    other.mkdir()
    monkeypatch.chdir(other)
    assert place() != here.parent and remove_dead() == 0 and here.exists()
    monkeypatch.chdir(tmp_path)
    assert remove_dead() == 1


def test_a_place_leaves_room_for_rays_sockets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    deep = tmp_path / ("deep" * 20)
    deep.mkdir()
    monkeypatch.setattr(leftovers.tempfile, "gettempdir", lambda: str(deep))
    where = place()
    assert len(str(where)) <= leftovers.LONGEST
    where.rmdir()
