"""Laws of the flow on a real Prefect server and a real DVC: it runs what DVC says is stale, and leaves no process behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

psutil = pytest.importorskip("psutil", reason="psutil comes with DVC, which is not installed")
pytest.importorskip("dvc", reason="DVC is not installed")
pytest.importorskip("prefect", reason="Prefect is not installed")

from pipelines.reproduce import is_stale, read_dag, reproduce, set_params, stop_group  # noqa: E402  (needs both)

ROOT = Path(__file__).resolve().parents[2]
ALL = ["letters", "count", "other"]


def states_on_the_server() -> list[tuple[str, str]]:
    """Name and state of each task run of the newest flow run, as the dashboard shows them."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
    from prefect.client.schemas.sorting import FlowRunSort

    with get_client(sync_client=True) as client:
        [newest] = client.read_flow_runs(sort=FlowRunSort.EXPECTED_START_TIME_DESC, limit=1)
        only = FlowRunFilter(id=FlowRunFilterId(any_=[newest.id]))
        deadline = time.monotonic() + 30
        while len(runs := client.read_task_runs(flow_run_filter=only)) < len(ALL):
            assert time.monotonic() < deadline, "the server does not know of all task runs"
        return sorted((run.name, run.state_name or "") for run in runs)


def test_stages_stand_in_an_order_in_which_they_can_run(project: Path) -> None:
    steps = read_dag([])
    assert sorted(step.name for step in steps) == sorted(ALL)
    assert [step.name for step in read_dag(["count"])] == ["letters", "count"]
    assert steps[[step.name for step in steps].index("count")].needs == ("letters",)
    assert [step.name for step in steps if is_stale(step)] == [step.name for step in steps]
    with pytest.raises(
        SystemExit, match="dvc.yaml has no stage cuont; expected some of count, letters, other"
    ):
        read_dag(["cuont"])


def test_what_is_stale_runs_and_the_rest_is_shown_as_cached(project: Path, server: str) -> None:
    assert reproduce([]) == dict.fromkeys(ALL, "ran")
    assert (project / "count.txt").read_text().split() == ["4"]
    assert reproduce([]) == dict.fromkeys(ALL, "cached")
    assert states_on_the_server() == [(name, "Cached") for name in sorted(ALL)]

    (project / "input.txt").write_text("a\nb\n")
    same_bytes_again = reproduce([])
    assert same_bytes_again == {"letters": "ran", "count": "cached", "other": "cached"}
    assert dict(states_on_the_server())["letters"] == "Completed"

    (project / "count.txt").unlink()
    assert reproduce(["count"]) == {"letters": "cached", "count": "cached"}, "DVC has it in its cache"
    assert (project / "count.txt").is_file()
    assert reproduce(["count"], force=True) == {"letters": "ran", "count": "ran"}


def test_a_stage_that_fails_stops_the_flow_and_says_how_to_go_on(project: Path, server: str) -> None:
    (project / "fine.sh").write_text("exit 3\n")
    with pytest.raises(RuntimeError, match=r"other ended with status \d+; `dvc repro other` goes on"):
        reproduce(["other"])


def test_a_flow_that_is_cancelled_leaves_no_process_behind(project: Path, server: str) -> None:
    (project / "fine.sh").write_text("sleep 600 & echo $! > sleeping; wait\n")
    flow = subprocess.Popen(
        [sys.executable, "-m", "pipelines.reproduce", "other"],
        env=os.environ | {"PYTHONPATH": str(ROOT), "PREFECT_API_URL": server},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not (project / "sleeping").is_file() or not (project / "sleeping").read_text().strip():
        assert flow.poll() is None and time.monotonic() < deadline, "the stage did not start"
    flow.send_signal(signal.SIGTERM)
    assert flow.wait(60) != 0
    assert not runs(int((project / "sleeping").read_text()))


def runs(pid: int) -> bool:
    """Whether a process runs; one that ended and waits to be collected does not."""
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_stopping_a_group_ends_what_its_first_process_left_behind() -> None:
    process = subprocess.Popen(
        ["sh", "-c", "sleep 600 & echo $!"], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    sleeper = int(process.stdout.readline())
    process.wait()
    assert runs(sleeper)
    stop_group(process)
    assert not runs(sleeper)


def test_settings_are_written_with_comments_kept(project: Path) -> None:
    set_params(["other=bad.sh", "deep.value=2.5"])
    text = (project / "params.yaml").read_text()
    assert (
        "# what the third stage runs\nother: bad.sh " in text and "# a script\ndeep: {value: 2.5}\n" in text
    )
    for change in ("othr=1", "deep.valeu=1", "other.x=1", "other"):
        with pytest.raises(SystemExit, match=f"-S {change}: expected KEY=VALUE with a key of params.yaml"):
            set_params([change])
    assert (project / "params.yaml").read_text() == text
