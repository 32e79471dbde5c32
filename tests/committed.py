"""What tests judge: code, docs and tests of the working tree, but of a user's own files only what the commit says.

params.yaml, dvc.lock, metrics/, artifacts/ and their like belong to whoever works here: `make repro` rewrites them, with other
last bits on another CPU. So a test reads them from the commit (`text`), or works in a copy (`copy_of_the_working_tree`).
`forbid_reading_the_users_files` makes pytest fail a test that opens them all the same.
"""

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from workspace.code import PACKAGES

ROOT = Path(__file__).resolve().parents[1]
USERS = (".dvc", ".runs", ".venv", "artifacts", "data", "metrics", "params.yaml", "weights")
"""Top-level names of files that are the user's; every dvc.lock is too."""
JUDGE_HEAD = "MQVAE_JUDGE_HEAD"
"""Set where this project's own commits are judged (.ci/run): results must agree in HEAD itself."""
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
"""As the tests began, without what a git hook sets: GIT_DIR would lead every git command of a copy back here."""
READS = ("open", "os.listdir", "os.scandir")
"""Audit events of reading, whose first argument is a path."""


def is_the_users(name: str) -> bool:
    """Whether a path relative to the root belongs to the user, committed or not."""
    parts = name.split("/")
    return parts[0] in USERS or parts[-1] == "dvc.lock"


def git(*words: str) -> bytes:
    """What git says in the repository's root.

    Raises:
        subprocess.CalledProcessError, FileNotFoundError: it fails, or is not installed.
    """
    command = ["git", "-C", str(ROOT), *words]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, check=True).stdout


def head() -> str | None:
    """The commit that is checked out; None where this is not a repository of its own (an unpacked archive), or has no commit."""
    try:
        top = git("rev-parse", "--show-toplevel").decode().strip()
        return git("rev-parse", "HEAD").decode().strip() if Path(top) == ROOT else None
    except (subprocess.CalledProcessError, FileNotFoundError):
        return None


def needs_a_commit() -> str:
    """The commit that is checked out; skips the test where there is none."""
    commit = head()
    if commit is None:
        pytest.skip(
            "this tree is not a git repository with a commit of its own: what is committed is not known"
        )
    return commit


def names(commit: str | None = None) -> list[str]:
    """The files of a commit, HEAD's by default, relative to the root."""
    listed = git("ls-tree", "-rz", "--name-only", commit or needs_a_commit())
    return [name for name in listed.decode().split("\0") if name]


def data(name: str, commit: str | None = None) -> bytes:
    """A file's bytes in a commit, HEAD by default."""
    return git("show", f"{commit or needs_a_commit()}:{name}")


def text(name: str, commit: str | None = None) -> str:
    """A file's text in a commit, HEAD by default."""
    return data(name, commit).decode()


def commits_that_may_agree(name: str) -> list[str]:
    """HEAD, and the commit that last changed a file, for a law between that file and results.

    Users commit results and settings of their own (docs/experiments.md says so) and need not edit this project's README or
    presets for it. In this project's own commits HEAD alone counts.
    """
    commits = [needs_a_commit()]
    if not os.environ.get(JUDGE_HEAD):
        commits += git("log", "-1", "--format=%H", "--", name).decode().split()
    return commits


def working_names() -> list[str]:
    """Code, docs and tests of the working tree, new ones too; none of the user's files, nor what else lies about."""
    listed = _listed_by_git() if head() else _listed_by_walking()
    return sorted(name for name in listed if not is_the_users(name) and (ROOT / name).is_file())


def _listed_by_git() -> Iterator[str]:
    tracked = [name for name in git("ls-files", "-z").decode().split("\0") if name]
    yield from tracked
    folders = {name.split("/")[0] for name in tracked if "/" in name} | set(PACKAGES)
    for name in git("ls-files", "-z", "--others", "--exclude-standard").decode().split("\0"):
        if name.split("/")[0] in folders and "/" in name:
            yield name


def _listed_by_walking() -> Iterator[str]:
    for folder, below, files in os.walk(ROOT):
        place = Path(folder).relative_to(ROOT)
        top = place == Path()
        below[:] = [
            name
            for name in below
            if not (top and name in USERS)
            and not name.startswith((".git", ".mypy", ".ruff", ".pytest", ".hypo"))
        ]
        below[:] = [name for name in below if name != "__pycache__" and not name.endswith(".egg-info")]
        yield from ((place / name).as_posix() for name in files)


def copy_of_the_working_tree(folder: Path) -> Path:
    """Code, docs and tests of the working tree, and DVC's configuration as committed; nothing of the user's."""
    for name in working_names():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((ROOT / name).read_bytes())
        (folder / name).chmod((ROOT / name).stat().st_mode)
    write(folder, {".dvc/config": CONFIG, ".dvc/.gitignore": "/config.local\n/tmp\n/cache\n"})
    return folder


CONFIG = "[core]\n    analytics = false\n    autostage = false\n    check_update = false\n"
"""Of DVC in a copy: the user may have added remotes to the tree's."""


def write(folder: Path, files: dict[str, str]) -> None:
    """Write text files below a folder."""
    for name, words in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(words, encoding="utf-8")


def opened(event: str, arguments: Iterable[Any]) -> str | None:
    """Which of the user's files an audit event reads, relative to the root."""
    if event not in READS:
        return None
    path = next(iter(arguments), None)
    if isinstance(path, bytes):
        path = os.fsdecode(path)
    if not isinstance(path, str | os.PathLike) or not os.fspath(path).startswith("/"):
        return None  # relative to a folder's descriptor, or to where the tests run, which is not here
    path = os.path.normpath(path)
    if not path.startswith(f"{ROOT}/") or path == os.environ.get("MQVAE_REPORT"):
        return None
    name = path[len(str(ROOT)) + 1 :]
    return name if is_the_users(name) and not name.startswith(".venv") else None


def forbid_reading_the_users_files() -> None:
    """Fail any test of this process that reads them; for good, as an audit hook cannot be removed."""

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        name = opened(event, arguments)
        if name is not None:
            pytest.fail(f"a test read the user's {name}: read the commit, or a copy (tests/committed.py)")

    sys.addaudithook(watch)
