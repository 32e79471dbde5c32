"""A repository in which the whole workflow has run at tiny scale: made once for all of pytest's workers, copied by its users."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from tests.test_workflow import copy_of_the_repository, environment

BIN = Path(sys.executable).parent


def run(
    folder: Path, *command: str, code: Path | None = None, seconds: float = 300, check: bool = True
) -> str:
    """Run a program of the virtual environment, or git, in a folder; returns everything that it said.

    First-party code is that of `code`, or of the folder itself.
    """
    program = command[0] if command[0] == "git" else str(BIN / command[0])
    done = subprocess.run(
        [program, *command[1:]],
        cwd=folder,
        env=environment(code or folder) | {"GIT_CONFIG_GLOBAL": os.devnull} | IDENTITY,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    said = done.stdout + done.stderr
    assert not check or done.returncode == 0, said
    return said


IDENTITY = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "test"), ("EMAIL", "test@example.invalid"))
}


def finished_repository(factory: pytest.TempPathFactory) -> Path:
    """The one repository; nobody changes it."""
    base = factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = shared / "tiny-repository"
    with FileLock(shared / "tiny-repository.lock"):
        if not (folder / "dvc.lock").is_file():
            made = copy_of_the_repository(shared / "tiny-repository-in-the-making")
            run(made, "dvc", "repro", seconds=900)
            run(made, "git", "add", "-A")
            run(made, "git", "commit", "-qm", "results")
            made.rename(folder)
    return folder


def copy_of(folder: Path, to: Path) -> Path:
    """A copy of the finished repository to change."""
    shutil.copytree(folder, to, symlinks=True)
    return to
