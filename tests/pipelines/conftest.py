"""A small DVC project of shell commands, and a Prefect server of its own."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.prefect_home import copy_of_the_database

BIN = Path(sys.executable).parent
WORKFLOW = """\
stages:
  letters:
    cmd: sort < input.txt > letters.txt && echo sorted
    deps: [input.txt]
    outs: [letters.txt]
  count:
    cmd: wc -c < letters.txt > count.txt
    deps: [letters.txt]
    outs: [count.txt]
  other:
    cmd: sh ${other}
    params: [other]
    outs: [other.txt]
"""
PARAMS = """\
# what the third stage runs
other: fine.sh   # a script
deep: {value: 1}
"""


@pytest.fixture(scope="session")
def committed_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `project` is a copy of."""
    folder = tmp_path_factory.mktemp("project")
    files = {
        "dvc.yaml": WORKFLOW,
        "params.yaml": PARAMS,
        "input.txt": "b\na\n",
        "fine.sh": "echo > other.txt\n",
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@example.invalid"]
    for command in ([*git, "init", "-q"], [str(BIN / "dvc"), "init", "-q"], [*git, "add", "-A"],
                    [*git, "commit", "-q", "-m", "start"]):  # fmt: skip
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture
def project(committed_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A DVC project in which nothing has run yet; the tests run in it."""
    shutil.copytree(committed_project, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real ephemeral Prefect server with a database of its own; it ends with the file, as idle ones work too."""
    pytest.importorskip("prefect", reason="Prefect is not installed")
    from prefect.settings import PREFECT_API_URL
    from prefect.testing import utilities

    folder = tmp_path_factory.mktemp("server")
    copy_of_the_database(tmp_path_factory, folder / "prefect-test.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utilities, "mkdtemp", lambda: str(folder))
        with utilities.prefect_test_harness(server_startup_timeout=600):
            yield PREFECT_API_URL.value()
