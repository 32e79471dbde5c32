"""A repository in which the whole workflow has run at tiny scale: made once for all of pytest's workers, copied by its users."""

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from filelock import FileLock

from tests import presets
from tests.committed import copy_of_the_working_tree
from tests.hostile.guard import LOG
from tests.hostile.guard import folder as guarded
from tests.hostile.table import World, make_world
from tests.load import SHARED
from tests.typed import BIN, IDENTITY, environment
from tests.typed import typed as typed
from tests.waiting import slowness
from workspace.settings import STAGES

NOTHING: Mapping[str, str] = {}


def run(
    folder: Path,
    *command: str,
    code: Path | None = None,
    seconds: float = 300,
    check: bool = True,
    more: Mapping[str, str] = NOTHING,
) -> str:
    """Run a program of the virtual environment, or git or cp, in a folder; returns everything that it said.

    First-party code is that of `code`, or of the folder itself. The command has `seconds` on an idle machine, more on a busy one.
    """
    program = command[0] if command[0] in ("git", "cp") else str(BIN / command[0])
    done = subprocess.run(
        [program, *command[1:]],
        cwd=folder,
        env={**environment(code or folder), **IDENTITY, **more},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds * slowness(),
        check=False,
    )
    said = done.stdout + done.stderr
    assert not check or done.returncode == 0, said
    return said


def copy_of_the_repository(folder: Path) -> Path:
    """The code of the working tree, with tiny settings, as a repository of its own."""
    copy_of_the_working_tree(folder)
    (folder / "params.yaml").write_text(presets.text("tiny"), encoding="utf-8")
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "tiny"]):
        run(folder, "git", *command)
    return folder


def shared_by_all_workers(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that one of pytest's workers makes, or of the runs of tests.load, and all of them read; nobody changes it."""
    base = factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else Path(os.environ.get(SHARED, base))
    folder = shared / name
    with FileLock(shared / f"{name}.lock"):
        if not folder.is_dir():
            being_made = shared / f"{name}-in-the-making"
            shutil.rmtree(being_made, ignore_errors=True)  # of a worker that failed in the middle
            make(being_made)
            being_made.rename(folder)
    return folder


def finished_repository(factory: pytest.TempPathFactory) -> Path:
    """The one repository: `dvc repro` has run there from nothing, and no process talked to another host."""
    return shared_by_all_workers(factory, "tiny-repository", _finish)


def _finish(folder: Path) -> None:
    copy_of_the_repository(folder)
    guard = guarded(folder.with_name("tiny-guard"))
    paths = os.pathsep.join([str(guard), str(folder)])
    more = {"PYTHONPATH": paths, LOG: str(guard / "log"), "LC_ALL": "C"}
    said = run(folder, "dvc", "repro", seconds=900, more=more)
    assert not (guard / "log").exists(), "a process connected to another host, or listened for one"
    assert {name.rpartition(":")[2] for name in stages_run(said)} == set(STAGES)
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-qm", "results")


def small_world(factory: pytest.TempPathFactory, to: Path) -> World:
    """A folder of one's own with every artifact at the smallest size, to change.

    All come from one that was made in a path with a space, a quote and an umbrella; hard links within it stay.
    """
    made = shared_by_all_workers(factory, "it's köln ☂", make_world)
    subprocess.run(["cp", "-a", str(made), str(to)], check=True)
    return World(to)


def stages_run(said: str) -> set[str]:
    """Which stages DVC said that it ran."""
    return {line.split("'")[1] for line in said.splitlines() if line.startswith("Running stage '")}


def copy_of(folder: Path, to: Path) -> Path:
    """A copy of the finished repository to change."""
    shutil.copytree(folder, to, symlinks=True)
    return to
