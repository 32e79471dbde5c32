"""The dashboard as its users have it: a real server, a real worker, runs started through the API, a real browser, real kills.

One server and one workspace, in which everything has run at tiny scale, serve all tests; each states what it changes.
"""

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.tiny import copy_of, finished_repository, run
from tests.waiting import matching, slowness, until

psutil = pytest.importorskip("psutil", reason="psutil comes with DVC, which is not installed")
pytest.importorskip("dvc", reason="DVC is not installed")
pytest.importorskip("prefect", reason="Prefect is not installed")

pytestmark = pytest.mark.timeout(1200)
STAGES = {
    "draw_shapes", "shard", "reference", "train_mqvae", "reconstruct", "tokenize", "train_stackformer", "sample",
    "evaluate", "report",
}  # fmt: skip
AFTER_SAMPLE = {"sample", "evaluate", "report"}
NASTY = "<img src=x onerror=alert(1)>"


@dataclass
class Dashboard:
    """A running dashboard and its workspace."""

    root: Path
    process: "subprocess.Popen[bytes]"
    state: dict[str, Any]
    client: Any

    def start(self, flow: str = "reproduce", **parameters: Any) -> UUID:
        """Start a run as the browser's form does."""
        deployment = self.client.read_deployment_by_name(f"{flow}/workspace")
        made: UUID = self.client.create_flow_run_from_deployment(deployment.id, parameters=parameters).id
        return made

    def wait(self, flow_run: UUID, *names: str, seconds: float = 600) -> str:
        """Until a run's state has one of these names (none: until it is final)."""
        deadline = time.monotonic() + seconds
        while True:
            state = self.client.read_flow_run(flow_run).state
            if state.name in names or (not names and state.is_final()):
                return f"{state.name}: {state.message}"
            assert time.monotonic() < deadline, f"the run is {state.name}: {state.message}"
            time.sleep(0.2)

    def tasks(self, flow_run: UUID) -> dict[str, str]:
        """Task → state."""
        from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

        only = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run]))
        return {task.name: task.state_name for task in self.client.read_task_runs(flow_run_filter=only)}

    def artifacts(self, flow_run: UUID) -> dict[str, Any]:
        """Key → artifact."""
        from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

        only = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run]))
        return {artifact.key: artifact for artifact in self.client.read_artifacts(artifact_filter=only)}

    def logs(self, flow_run: UUID) -> str:
        """Every line of a run's log that the server has."""
        from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId

        only = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[flow_run]))
        return "\n".join(log.message for log in self.client.read_logs(log_filter=only, limit=200))

    def wait_for_progress(self, flow_run: UUID, percent: float) -> float:
        """The first percentage that the training's progress artifact shows of at least `percent`."""
        deadline = time.monotonic() + 600
        while True:
            found = self.artifacts(flow_run).get("progress-train-stackformer")
            if found is not None and float(found.data) >= percent:
                assert "steps" in found.description and "images per second" in found.description
                return float(found.data)
            state = self.client.read_flow_run(flow_run).state
            assert not state.is_final() and time.monotonic() < deadline, f"{state.name}: {state.message}"
            time.sleep(0.2)

    def stage_processes(self) -> list[Any]:
        """Living processes that run a stage, or DVC, in this workspace."""
        found = []
        for process in psutil.process_iter():
            try:
                words, place = process.cmdline(), process.cwd()
                alive = process.status() != psutil.STATUS_ZOMBIE
            except psutil.Error:
                continue
            if (
                alive
                and place == str(self.root)
                and any("stages." in word or "dvc" in word for word in words)
            ):
                found.append(process)
        return found


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    """`make dashboard` in a copy of the finished repository."""
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, temporary_settings

    root = copy_of(finished_repository(tmp_path_factory), tmp_path_factory.mktemp("dashboard") / "workspace")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    plain = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "pipelines.dashboard", "--port", str(port)],
        cwd=root,
        env=plain | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
    )
    file, deadline = root / ".runs" / "prefect" / "dashboard.json", time.monotonic() + 240
    while not file.is_file():
        assert process.poll() is None and time.monotonic() < deadline, "the dashboard did not start"
        time.sleep(0.2)
    state = json.loads(file.read_text())
    with temporary_settings({PREFECT_API_URL: state["api"]}), get_client(sync_client=True) as client:
        yield Dashboard(root, process, state, client)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert not file.exists()


@pytest.fixture(scope="module")
def finished(dashboard: Dashboard) -> UUID:
    """A run, started through the API with another setting for `sample`, that is at its end."""
    numbers = dashboard.root / "metrics" / "sample" / "metrics.json"
    numbers.write_text(json.dumps(json.loads(numbers.read_text()) | {NASTY: 1.0}))
    made = dashboard.start(overrides=["sample.guidance=2.5"])
    assert dashboard.wait(made).startswith("Completed")
    return made


def test_every_stage_of_a_run_has_a_state_and_the_fresh_ones_are_cached(
    dashboard: Dashboard, finished: UUID
) -> None:
    deadline = time.monotonic() + 60
    expected = {name: "Completed" if name in AFTER_SAMPLE else "Cached" for name in STAGES}
    while (found := dashboard.tasks(finished)) != expected:
        assert time.monotonic() < deadline, found
        time.sleep(0.2)


def test_a_stages_output_is_in_the_runs_log_and_whole_in_a_file(dashboard: Dashboard, finished: UUID) -> None:
    name, deadline = dashboard.client.read_flow_run(finished).name, time.monotonic() + 60
    while "[report] → artifacts/report" not in dashboard.logs(finished):
        assert time.monotonic() < deadline, dashboard.logs(finished)
        time.sleep(0.5)
    assert "dvc repro --single-item sample" in dashboard.logs(finished)
    files = {path.stem: path.read_text() for path in (dashboard.root / ".runs/logs" / name).glob("*.log")}
    assert files.keys() == AFTER_SAMPLE and "[sample] → artifacts/samples" in files["sample"]


def test_a_run_leaves_numbers_pictures_and_a_link_to_its_report(dashboard: Dashboard, finished: UUID) -> None:
    artifacts = dashboard.artifacts(finished)
    for key, file in (
        ("reproduce-samples-grid", "artifacts/samples/grid.png"),
        ("reproduce-reconstructions-figure4", "artifacts/reconstructions/figure4.png"),
    ):
        assert artifacts[key].type == "image"
        data = base64.b64decode(artifacts[key].data.removeprefix("data:image/png;base64,"))
        assert data == (dashboard.root / file).read_bytes()
    table = {(row["stage"], row["number"]): row for row in json.loads(artifacts["reproduce-numbers"].data)}
    moved = table["evaluate", "proxy_fd"]
    assert float(moved["now"]) - float(moved["last run"]) == pytest.approx(
        float(moved["difference"]), abs=1e-3
    )
    assert table["train_mqvae", "psnr"]["difference"] == "="
    summary = artifacts["reproduce-summary"].data
    assert "| sample | ran |" in summary and "| shard | cached |" in summary and NASTY not in summary
    link = summary.split("[The report](")[1].split(")")[0]
    with urllib.request.urlopen(link) as answer:
        assert answer.read() == (dashboard.root / "artifacts/report/index.html").read_bytes()
    for path in (
        "params.yaml",
        "artifacts/report/../../params.yaml",
        "artifacts/report/%2e%2e/%2e%2e/dvc.yaml",
    ):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{dashboard.state['reports']}/{path}")


def test_the_form_of_a_deployment_describes_every_parameter(dashboard: Dashboard) -> None:
    for flow in ("reproduce", "sweep", "tables"):
        form = dashboard.client.read_deployment_by_name(f"{flow}/workspace").parameter_openapi_schema
        assert form["properties"]
        for name, field in form["properties"].items():
            assert len(field["description"]) > 20 and "default" in field, f"{flow}: {name}"


def test_a_browser_finds_stages_states_and_the_sample_grid_and_asks_nobody_else(
    dashboard: Dashboard, finished: UUID, tmp_path: Path
) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        assert not os.environ.get("MQVAE_REQUIRE_CHROMIUM"), "chromium is not installed"
        pytest.skip("chromium is not installed")
    from playwright.sync_api import sync_playwright

    pictures = Path(os.environ.get("MQVAE_PICTURES", tmp_path))  # docs/pictures, to make them anew
    hosts: set[str] = set()
    dialogs: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--headless", "--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 1300, "height": 950})
        page.set_default_timeout(300_000)
        page.set_default_navigation_timeout(300_000)
        page.on(
            "request", lambda request: hosts.add(request.url.split("/")[2] if "//" in request.url else "")
        )
        page.on("dialog", lambda dialog: dialogs.append(dialog.message))
        page.goto(f"{dashboard.state['ui']}/runs/flow-run/{finished}", wait_until="commit")
        page.get_by_text("Task Runs", exact=True).first.click()
        for name in STAGES:
            page.get_by_text(name, exact=True).first.wait_for()
        words = page.inner_text("body")
        assert words.count("Cached") >= len(STAGES - AFTER_SAMPLE) and words.count("Completed") >= 3
        page.screenshot(path=pictures / "dashboard_run.png")
        page.get_by_text("Artifacts", exact=True).first.click()
        page.get_by_text("reproduce-samples-grid").first.click()
        grid = page.locator("img[src^='data:image/png']").first
        grid.wait_for()
        assert grid.evaluate("image => image.complete && image.naturalWidth") > 300
        page.screenshot(path=pictures / "dashboard_samples.png")
        numbers = dashboard.artifacts(finished)["reproduce-numbers"]
        page.goto(f"{dashboard.state['ui']}/artifacts/artifact/{numbers.id}", wait_until="commit")
        page.get_by_text("proxy_fd", exact=True).first.wait_for()
        page.screenshot(path=pictures / "dashboard_numbers.png")
        browser.close()
    assert hosts - {""} == {f"127.0.0.1:{dashboard.state['port']}"}
    assert not dialogs, "a name ran as HTML"


def test_the_servers_processes_talk_to_this_machine_alone(dashboard: Dashboard, finished: UUID) -> None:
    family = psutil.Process(dashboard.process.pid)
    ends = {
        connection.raddr.ip
        for process in [family, *family.children(recursive=True)]
        for connection in process.net_connections(kind="inet")
        if connection.raddr
    }
    listening = {
        connection.laddr.ip
        for process in [family, *family.children(recursive=True)]
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert ends <= {"127.0.0.1"} and listening == {"127.0.0.1"}


def test_two_runs_of_one_workspace_queue_and_one_typed_by_hand_too(dashboard: Dashboard) -> None:
    """Changes evaluate.seed."""
    first = dashboard.start(targets=["evaluate"], overrides=["evaluate.seed=1"])
    second = dashboard.start(targets=["evaluate"])
    dashboard.wait(first, "Running", "Completed")
    said = run(dashboard.root, "python", "-m", "pipelines.reproduce", "evaluate")
    assert "cached  evaluate" in said
    assert {dashboard.wait(flow_run).split(":")[0] for flow_run in (first, second)} == {"Completed"}
    read = (dashboard.client.read_flow_run(flow_run) for flow_run in (first, second))
    runs = sorted(read, key=lambda found: found.start_time)
    assert runs[0].end_time <= runs[1].start_time


def test_a_training_that_is_cancelled_or_loses_its_worker_goes_on_from_its_checkpoint(
    dashboard: Dashboard,
) -> None:
    """Changes stackformer.steps."""
    steps = 600
    asked = {"targets": ["train_stackformer"], "overrides": [f"stackformer.steps={steps}"]}
    cancelled = dashboard.start(**asked)
    dashboard.wait_for_progress(cancelled, 2)
    asked_at = time.monotonic()
    request = urllib.request.Request(
        f"{dashboard.state['api']}/flow_runs/{cancelled}/set_state",
        data=json.dumps({"state": {"type": "CANCELLING"}}).encode(),
        headers={"Content-Type": "application/json"},
    )
    urllib.request.urlopen(request).close()  # as the browser's Cancel does
    until(lambda: not dashboard.stage_processes(), 60)
    assert time.monotonic() - asked_at < 10 * slowness()
    assert dashboard.wait(cancelled).startswith("Cancelled")
    assert "train_stackformer" in run(dashboard.root, "dvc", "status", "train_stackformer"), (
        "DVC is unlocked, the stage is stale"
    )
    reached = newest_checkpoint(dashboard.root)
    assert 0 < reached < steps

    again = dashboard.start(**asked)
    assert dashboard.wait_for_progress(again, 0) >= 100 * reached / steps
    worker = next(
        process
        for process in psutil.Process(dashboard.process.pid).children(recursive=True)
        if {"worker", "start"} <= set(process.cmdline())
    )
    worker.kill()
    told = "Crashed: The worker that had this run died"  # a run that is being ended may have said so itself before
    until(lambda: dashboard.wait(again, seconds=240).startswith(told), 60)
    assert not dashboard.stage_processes()
    reached = newest_checkpoint(dashboard.root)

    retry = json.dumps({"state": {"type": "SCHEDULED", "name": "AwaitingRetry"}, "force": True}).encode()
    request = urllib.request.Request(
        f"{dashboard.state['api']}/flow_runs/{again}/set_state", data=retry,
        headers={"Content-Type": "application/json"},
    )  # fmt: skip
    urllib.request.urlopen(request).close()  # as the browser's Retry does
    assert dashboard.wait(again, "Completed").startswith("Completed")
    curves = (dashboard.root / "metrics/train_stackformer/curves.tsv").read_text().splitlines()[1:]
    logged = [int(line.split("\t")[0]) for line in curves]
    assert logged == sorted(set(logged)) and logged[-1] == steps


def newest_checkpoint(root: Path) -> int:
    """The step of the training's newest checkpoint."""
    steps = matching(root / ".runs" / "train_stackformer", "*/work/step-*")
    return max((int(path.name.split("-")[1]) for path in steps), default=0)
