"""Laws of the flow on a real Prefect server and a real DVC: it runs what DVC says is stale, and leaves no process behind."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

psutil = pytest.importorskip("psutil", reason="psutil comes with DVC, which is not installed")
pytest.importorskip("dvc", reason="DVC is not installed")

from pipelines.errors import RefusedError  # noqa: E402
from tests.committed import ROOT  # noqa: E402
from tests.pipelines.conftest import PARAMS  # noqa: E402
from tests.waiting import slowness, until  # noqa: E402

pytestmark = pytest.mark.skipif(find_spec("prefect") is None, reason="Prefect is not installed")
"""Tests import what imports it, 1.6 CPU seconds: pytest collects this file in each of its workers, and one runs it."""
GUARD = ROOT / "pipelines" / "guard.py"
ALL = ["letters", "count", "other"]


def states_on_the_server() -> dict[str, str]:
    """Name → state of the task runs of the newest flow run, as the dashboard shows them."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
    from prefect.client.schemas.sorting import FlowRunSort

    with get_client(sync_client=True) as client:
        [newest] = client.read_flow_runs(sort=FlowRunSort.EXPECTED_START_TIME_DESC, limit=1)
        only = FlowRunFilter(id=FlowRunFilterId(any_=[newest.id]))
        deadline = time.monotonic() + 60 * slowness()
        while True:  # task runs reach the server as events, a moment later
            found = {run.name: run.state_name or "" for run in client.read_task_runs(flow_run_filter=only)}
            if len(found) == len(ALL) and "Running" not in found.values():
                return found
            assert time.monotonic() < deadline, f"the server knows of {found} alone"
            time.sleep(0.2)


def test_stages_stand_in_an_order_in_which_they_can_run(project: Path) -> None:
    from pipelines.dag import read_dag

    steps = read_dag(project)
    assert sorted(step.name for step in steps) == sorted(ALL)
    assert [step.name for step in read_dag(project, ["count"])] == ["letters", "count"]
    count, other = (steps[[step.name for step in steps].index(name)] for name in ("count", "other"))
    assert count.needs == ("letters",) and count.outs == (Path("count.txt"),)
    assert other.sections == {"other"} and count.sections == frozenset()
    assert all(step.stale for step in steps)
    with pytest.raises(
        RefusedError, match="dvc.yaml has no stage cuont; expected some of count, letters, other"
    ):
        read_dag(project, ["cuont"])


def test_what_descends_from_a_stale_stage_is_stale_and_nothing_else(project: Path) -> None:
    from pipelines.dag import read_dag

    subprocess.run([Path(sys.executable).with_name("dvc"), "repro", "-q"], check=True, capture_output=True)
    assert not any(step.stale for step in read_dag(project))
    (project / "input.txt").write_text("c\n")
    assert {step.name: step.stale for step in read_dag(project)} == {
        "letters": True, "count": True, "other": False}  # fmt: skip


def test_what_is_stale_runs_and_the_rest_is_shown_as_cached(project: Path, server: str) -> None:
    from pipelines.reproduce import reproduce

    assert reproduce() == dict.fromkeys(ALL, "ran")
    assert (project / "count.txt").read_text().split() == ["4"]
    assert reproduce() == dict.fromkeys(ALL, "cached")
    assert states_on_the_server() == dict.fromkeys(ALL, "Cached")

    (project / "input.txt").write_text("a\nb\n")
    same_bytes_again = reproduce(overrides=["deep.value=2"])
    assert same_bytes_again == {"letters": "ran", "count": "cached", "other": "cached"}
    assert states_on_the_server() == {"letters": "Completed", "count": "Cached", "other": "Cached"}
    assert (project / "params.yaml").read_text() == PARAMS, "a run's settings are the run's alone"

    (project / "count.txt").unlink()
    assert reproduce(["count"]) == {"letters": "cached", "count": "cached"}, "DVC has it in its cache"
    assert (project / "count.txt").is_file()
    assert reproduce(["count"], force=True) == {"letters": "ran", "count": "ran"}


def test_a_stage_that_fails_stops_the_flow_and_says_how_to_go_on(project: Path, server: str) -> None:
    from pipelines.reproduce import reproduce

    (project / "fine.sh").write_text("echo the reason; exit 3\n")
    with pytest.raises(RuntimeError, match=r"other failed: the reason \(`dvc repro other`, or the same run"):
        reproduce(["other"])
    [log] = (project / ".runs" / "logs").glob("*/other.log")
    assert "the reason" in log.read_text()


def test_tables_are_the_pipelines_below_experiments(project: Path, server: str) -> None:
    from pipelines.dag import read_experiments
    from pipelines.tables import tables

    with pytest.raises(RefusedError, match=r"no table at all; there are no experiments/\*/dvc.yaml yet"):
        tables()
    folder = project / "experiments" / "table9"
    folder.mkdir(parents=True)
    (folder / "dvc.yaml").write_text(
        "stages:\n  arm:\n    matrix: {side: [1, 2]}\n    cmd: cat ../../count.txt > ${item.side}.txt\n"
        "    deps: [../../count.txt]\n    outs: ['${item.side}.txt']\n"
    )
    assert [step.name for step in read_experiments(project, [])] == ["letters", "count", "arm@1", "arm@2"]
    assert tables(["table9"]) == dict.fromkeys(["letters", "count", "arm@1", "arm@2"], "ran")
    with pytest.raises(RefusedError, match="has no table table8; expected some of table9"):
        tables(["table8"])


SWEPT = """\
stages:
  shared:
    cmd: echo shared >> ${log} && sort < input.txt > shared.txt
    params: [log]
    deps: [input.txt]
    outs: [shared.txt]
  half:
    cmd: echo half >> ${log} && echo ${half} > half.txt && wc -c half.txt > half.tsv
    params: [half]
    deps: [shared.txt]
    outs: [half.txt, half.tsv: {cache: false}]
  arm:
    cmd: echo arm >> ${log} && test ${arm} != bad && cat half.txt shared.txt > arm.txt
    params: [arm]
    deps: [half.txt, shared.txt]
    outs: [arm.txt]
"""


def test_arms_make_what_they_share_once_and_one_that_fails_is_named_and_stops_no_other(
    project: Path, server: str
) -> None:
    from pipelines.sweep import sweep

    log = project.parent / f"{project.name}.log"
    (project / "dvc.yaml").write_text(SWEPT)
    (project / "params.yaml").write_text(f"log: {log}\nhalf: 0\narm: 0\n")
    asked = {"arms": ["half=1 arm=bad", "half=1 arm=two", "half=2 arm=bad"], "at_once": 3}
    with pytest.raises(
        RuntimeError, match=r"2 of 3 arms failed: half=1, arm=bad \(arm failed: .*half=2, arm=bad \("
    ):
        sweep(**asked)
    ran = log.read_text().split()
    assert (ran.count("shared"), ran.count("half"), ran.count("arm")) == (1, 2, 3)
    results = json.loads((project / ".runs" / "sweep" / "results.json").read_text())
    assert [result["state"] for result in results] == ["Failed", "Completed", "Failed"]
    assert (project / ".runs" / "sweep" / results[1]["workspace"] / "arm.txt").read_text() == "1\na\nb\n"
    assert (project / "params.yaml").read_text().endswith("half: 0\narm: 0\n"), "the workspace is as it was"

    log.write_text("")
    with pytest.raises(RuntimeError, match="2 of 3 arms failed"):
        sweep(**asked)
    assert log.read_text().split() == ["arm", "arm"], "only what failed runs again"
    with pytest.raises(RefusedError, match="-S haf=1: expected KEY=VALUE with a key of params.yaml"):
        sweep(grid=["haf=1,2"])


def test_a_flow_that_is_cancelled_leaves_no_process_behind(project: Path, server: str) -> None:
    (project / "fine.sh").write_text("sleep 600 & echo $! > sleeping; wait\n")
    flow = subprocess.Popen(
        [sys.executable, "-m", "pipelines.reproduce", "other"],
        env=os.environ | {"PYTHONPATH": str(ROOT), "PREFECT_API_URL": server, "MQVAE_PREFECT": "mine"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    sleeper = pid_in(project / "sleeping", flow)
    flow.send_signal(signal.SIGTERM)
    assert flow.wait(60 * slowness()) != 0
    assert not runs(sleeper)


def test_a_run_of_a_shell_that_is_deleted_ends_too_with_its_stage_and_its_settings(
    project: Path, server: str
) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.objects import StateType

    before = (project / "params.yaml").read_text()
    (project / "slow.sh").write_text("sleep 600 & echo $! > sleeping; wait\n")
    settings = ("-S", "other=slow.sh", "-S", "deep.value=9")
    flow = subprocess.Popen(
        [sys.executable, "-m", "pipelines.reproduce", "other", *settings],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PREFECT_API_URL": server, "MQVAE_PREFECT": "mine"},
    )  # fmt: skip
    sleeper = pid_in(project / "sleeping", flow)
    assert "deep: {value: 9}" in (project / "params.yaml").read_text()
    with get_client(sync_client=True) as client:
        running = [one for one in client.read_flow_runs(limit=200) if one.state_type == StateType.RUNNING]
        client.delete_flow_run(max(running, key=lambda one: one.start_time).id)
        told = flow.communicate(timeout=240 * slowness())[1]
        assert (
            flow.returncode == 1
            and "in the dashboard, so its stages were ended" in told.rpartition("the run is ")[2]
        )
    assert not runs(sleeper)
    assert (project / "params.yaml").read_text() == before


def pid_in(path: Path, process: "subprocess.Popen[Any]") -> int:
    """The number that a process's child writes to a file."""
    until(lambda: path.is_file() and path.read_text().strip() or process.poll() is not None, 300)
    assert path.is_file() and path.read_text().strip(), "it did not start"
    return int(path.read_text())


def runs(pid: int) -> bool:
    """Whether a process runs; one that ended and waits to be collected does not."""
    try:
        status: str = psutil.Process(pid).status()
    except psutil.NoSuchProcess:
        return False
    return status != psutil.STATUS_ZOMBIE


def wait_until_ended(pid: int, seconds: float = 20) -> None:
    until(lambda: not runs(pid), seconds)


IN_A_SESSION_OF_ITS_OWN = (
    "setsid sh -c 'trap \"\" TERM; echo $$ > sleeping; while :; do sleep 1; done' & wait"
)


@pytest.mark.parametrize("how", ["stdin is closed", "its holder is killed"])
def test_a_guard_ends_the_whole_tree_even_what_ignores_it_in_another_session(
    tmp_path: Path, how: str
) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(GUARD), IN_A_SESSION_OF_ITS_OWN], stdin=subprocess.PIPE, cwd=tmp_path
    )  # fmt: skip
    sleeper = pid_in(tmp_path / "sleeping", holder)
    if how == "stdin is closed":
        holder.communicate(timeout=60 * slowness())
    else:
        holder.kill()
        holder.wait()
    wait_until_ended(sleeper)
    assert not runs(sleeper)


HOLDER = """
import subprocess, sys
guard = subprocess.Popen([sys.executable, sys.argv[1], "mark", "sh", "-c", sys.argv[2]], stdin=subprocess.PIPE)
sys.stdin.read()
guard.stdin.close()
guard.wait()
"""


def test_a_guard_ends_what_its_command_left_behind_and_has_its_status() -> None:
    guard = subprocess.Popen(
        [sys.executable, str(GUARD), "mark", "sh", "-c", "setsid sleep 600 & echo $!; exit 7"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert guard.stdout is not None and guard.wait(60 * slowness()) == 7
    wait_until_ended(int(guard.stdout.read()))


def test_a_flood_of_output_is_thinned_in_the_log_and_its_end_is_told_when_it_fails() -> None:
    from pipelines.running import LINES_AT_ONCE, TAIL, Output

    told: list[str] = []
    log = logging.Logger("flood")
    handler = logging.Handler()
    handler.emit = lambda record: told.append(record.getMessage())  # type: ignore[method-assign]
    log.addHandler(handler)
    output = Output(log, Path("whole.log"))
    for number in range(5000):
        output.add(f"line {number}")
    before = len(told)
    assert LINES_AT_ONCE <= before < 100 and told[0] == "line 0"
    output.close(failed=True)
    assert told[before].endswith("lines more in whole.log")
    assert told[before + 1 :] == [f"line {number}" for number in range(5000 - TAIL, 5000)]


def test_the_newest_progress_file_is_told_in_a_line(tmp_path: Path) -> None:
    from pipelines.dag import Step
    from pipelines.progress import described, key, newest

    step = Step("a", "train", (), True, (), frozenset(), frozenset(), "train")
    assert newest(tmp_path, step, 0) is None
    file = tmp_path / ".runs" / "train" / "abc" / "progress.json"
    file.parent.mkdir(parents=True)
    file.write_text(
        '{"title": "<b>training", "done": 12, "total": 2400, "unit": "steps", "rate": 2.0,'
        ' "seconds_left": 1194.0, "shown": {"loss": 4.81649, "images_per_second": 32.0}}'
    )
    state = newest(tmp_path, step, 0)
    assert state is not None and newest(tmp_path, step, time.time() + 60) is None
    assert described(state) == (
        "&lt;b&gt;training: 12/2,400 steps, 2.0/s, 1,194 s left; loss 4.816, images per second 32"
    )
    assert key("Progress", "train_mqvae@f8") == "progress-train-mqvae-f8"


def test_names_stand_in_markdown_as_they_are() -> None:
    from pipelines.showing import escaped

    assert escaped("<img src=x>|`a`\n[b](c) *d*") == (
        r"&lt;img src=x&gt;\|\`a\` \[b\](c) \*d\*"
    )  # fmt: skip


def test_the_summary_says_where_the_last_stage_came_from(tmp_path: Path) -> None:
    from pipelines.showing import came_from

    assert came_from(tmp_path) == []
    for day, stage in ((1, "shard"), (2, "evaluate")):
        origin = {
            "revision": f"{day}" * 40, "date": f"2026-11-0{day}T00:00:00Z", "preset": "faces", "settings": {"mqvae.steps": day},
            "data": {"source": "data/faces", "shards": "ab" * 32}, "again": f"dvc exp run -S mqvae.steps={day}",
        }  # fmt: skip
        (tmp_path / "metrics" / stage).mkdir(parents=True)
        (tmp_path / "metrics" / stage / "run.json").write_text(json.dumps({"origin": origin}))
    said = came_from(tmp_path)[0]
    assert said.startswith(f"Revision {'2' * 40}, 2026-11-02T00:00:00Z; preset faces, but ")
    assert said.endswith("shards abababababab. Again: `dvc exp run -S mqvae.steps=2`")
