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


def process(folder: Path, line: bytes, program: bool) -> Path:
    """A process as /proc shows it; its command line."""
    folder.mkdir(parents=True)
    (folder / "cmdline").write_bytes(line)
    if program:
        (folder / "exe").symlink_to(sys.executable)
    return folder / "cmdline"


def test_a_process_that_is_being_started_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its command line is empty between two moments of execve, of which the first already lets its starter run on."""
    folder = session(ended())
    line = process(tmp_path / "proc" / "7", b"", program=True)
    monkeypatch.setattr(leftovers, "PROCESSES", tmp_path / "proc")
    monkeypatch.setattr(
        leftovers.time, "sleep", lambda _: line.write_bytes(b"raylet\0" + os.fsencode(folder))
    )
    assert remove_dead() == 0 and folder.exists()
    line.write_bytes(b"another\0")
    assert remove_dead() == 1


def test_nothing_goes_while_a_process_does_not_say_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = session(ended())
    process(tmp_path / "proc" / "7", b"", program=True)
    monkeypatch.setattr(leftovers, "PROCESSES", tmp_path / "proc")
    monkeypatch.setattr(leftovers, "STARTING_SECONDS", 0.05)
    assert remove_dead() == 0 and folder.exists()
    (tmp_path / "proc" / "7" / "exe").unlink()  # a zombie, or one of the kernel's own
    assert remove_dead() == 1


def test_a_session_whose_starter_ends_while_command_lines_are_read_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`ray start` ends by itself, and its processes work on: they were not there yet when the first lines were read."""
    starter = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    folder, read = session(starter.pid), leftovers._command_lines

    def read_and_end() -> list[bytes | None]:
        lines = read()
        starter.kill()
        starter.wait()
        return lines

    monkeypatch.setattr(leftovers, "_command_lines", read_and_end)
    session(ended())  # so that the lines are read
    assert remove_dead() == 1 and sessions() == [folder]
    monkeypatch.setattr(leftovers, "_command_lines", read)
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
