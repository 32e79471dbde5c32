"""DVC sees the workflow alone; the tables are in view while a command that asks for them runs."""

import signal
import subprocess
import sys
import time
from multiprocessing import get_context
from pathlib import Path

import pytest
import yaml

from pipelines.view import VIEW, run, tables_in_view
from tests.committed import ROOT
from tests.tiny import run as run_in
from tests.typed import typed
from tests.waiting import slowness

TABLE = """\
stages:
  arm:
    matrix: {side: [1, 2]}
    wdir: ../..
    cmd: cat input.txt > ${item.side}.txt
    deps: [input.txt]
    outs: ['${item.side}.txt']
"""


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that has tables."""
    (tmp_path / "experiments").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_dvc_speaks_of_the_tables_only_where_it_is_asked_to(project: Path) -> None:
    pytest.importorskip("dvc", reason="DVC is not installed")
    (project / ".dvcignore").write_bytes((ROOT / ".dvcignore").read_bytes())
    (project / "experiments" / "table9").mkdir(parents=True)
    (project / "experiments" / "table9" / "dvc.yaml").write_text(TABLE)
    assert "table9" not in typed(project, "dvc", "status")
    shown = run_in(
        project, "python", "-m", "pipelines.view", "dvc", "repro", "experiments/table9/dvc.yaml", code=ROOT
    )
    assert "arm@1" in shown and "arm@2" in shown and not (project / VIEW).exists()
    said = typed(project, "dvc", "status")
    assert "table9" not in said and "letters" in said
    again = run_in(
        project, "python", "-m", "pipelines.view", "dvc", "repro", "experiments/table9/dvc.yaml", code=ROOT
    )
    assert "Running stage" not in again and "up to date" in again


def test_the_last_to_end_closes_the_view(workspace: Path) -> None:
    first, second = tables_in_view(workspace), tables_in_view(workspace)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert (workspace / VIEW).is_file()
    second.__exit__(None, None, None)
    assert not (workspace / VIEW).exists()


def opened_and_closed(root: Path, times: int) -> None:
    """Raises where the view is closed on somebody who is looking."""
    for _ in range(times):
        with tables_in_view(root):
            assert (root / VIEW).is_file()
            time.sleep(0.001)
            assert (root / VIEW).is_file()


def test_nobody_closes_the_view_on_another_however_they_meet(workspace: Path) -> None:
    fork = get_context("fork")
    several = [fork.Process(target=opened_and_closed, args=(workspace, 60)) for _ in range(4)]
    for process in several:
        process.start()
    for process in several:
        process.join(60 * slowness())
    assert [process.exitcode for process in several] == [0] * 4 and not (workspace / VIEW).exists()


def test_what_a_killed_process_left_open_the_next_one_closes(workspace: Path) -> None:
    code = "from pathlib import Path; from pipelines.view import *\nwith tables_in_view(Path()): print(flush=True); input()"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline()
    process.kill()
    process.communicate()
    assert (workspace / VIEW).is_file()
    with tables_in_view(workspace):
        pass
    assert not (workspace / VIEW).exists()


def test_a_command_has_its_own_exit_status_and_is_waited_for(workspace: Path) -> None:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        assert run([sys.executable, "-c", "raise SystemExit(3)"]) == 3
        assert run(["sh", "-c", "kill -TERM $$"]) == 128 + signal.SIGTERM
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    script = "trap 'sleep 0.3; echo ended; exit 5' TERM; echo; for i in $(seq 3000); do sleep 0.1; done"
    command = [sys.executable, "-m", "pipelines.view", "sh", "-c", script]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline()
    process.terminate()
    assert "ended" in process.communicate(timeout=300)[0] and process.returncode == 5
    assert not (workspace / VIEW).exists()


def test_every_make_target_of_a_table_goes_through_the_view() -> None:
    lines = (ROOT / "Makefile").read_text(encoding="utf-8").splitlines()
    asking = [line for line in lines if "dvc repro" in line and "experiments/" in line]
    assert len(asking) >= 6 and all("$(VIEW) dvc repro" in line for line in asking)
    hidden = (ROOT / ".dvcignore").read_text(encoding="utf-8").splitlines()
    assert "/experiments/*/dvc.yaml" in hidden and all("${" not in path for path in hidden)
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    assert not [name for name, stage in stages.items() if "experiments" in str(stage)]
