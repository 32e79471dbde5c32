"""A small DVC project of shell commands, and a Prefect server of its own."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

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


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A DVC project in which nothing has run yet; the tests run in it."""
    files = {
        "dvc.yaml": WORKFLOW,
        "params.yaml": PARAMS,
        "input.txt": "b\na\n",
        "fine.sh": "echo > other.txt\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@example.invalid"]
    for command in ([*git, "init", "-q"], [str(BIN / "dvc"), "init", "-q"], [*git, "add", "-A"],
                    [*git, "commit", "-q", "-m", "start"]):  # fmt: skip
        subprocess.run(command, check=True, capture_output=True)
    return tmp_path


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The address of a real ephemeral Prefect server with a database of its own."""
    pytest.importorskip("prefect", reason="Prefect is not installed")
    from prefect.settings import PREFECT_API_URL
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=600):
        yield PREFECT_API_URL.value()
