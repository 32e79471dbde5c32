"""The dashboard as its users have it: a real server, a real worker, runs started through the API, a real browser, real kills.

One server and one workspace, in which everything has run at tiny scale, serve all tests; each states what it changes. The
workspace has a blank in its name, and the environment a proxy and a Prefect profile that lead nowhere.
"""

import json
import os
import signal
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from uuid import UUID

import pytest

from pipelines.home import HOME
from tests.pipelines.browsing import links_of, recorded_browser
from tests.pipelines.running_dashboard import DEPLOYMENTS, ELSEWHERE, LOOKS, Dashboard, newest_checkpoint
from tests.prefect_home import DATABASE, copy_of_the_database
from tests.tiny import copy_of, finished_repository, run
from tests.waiting import becomes, until

psutil = pytest.importorskip("psutil", reason="psutil comes with DVC, which is not installed")
pytest.importorskip("dvc", reason="DVC is not installed")

pytestmark = [
    pytest.mark.timeout(2400),
    pytest.mark.skipif(find_spec("prefect") is None, reason="Prefect is not installed"),
]
STAGES = {
    "draw_shapes", "shard", "reference", "train_mqvae", "reconstruct", "tokenize", "train_stackformer", "sample",
    "evaluate", "report",
}  # fmt: skip
AFTER_SAMPLE = {"sample", "evaluate", "report"}
NASTY = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    """`make dashboard` in a copy of the finished repository."""
    root = copy_of(
        finished_repository(tmp_path_factory), tmp_path_factory.mktemp("dashboard") / "my workspace"
    )
    copy_of_the_database(tmp_path_factory, root / HOME / DATABASE)
    with ExitStack() as stack:
        made = Dashboard(root)
        made.up(stack)
        yield made
        made.process.send_signal(signal.SIGTERM)
        assert made.process.wait(60) == 0
        assert not (root / ".runs" / "prefect" / "dashboard.json").exists()


@pytest.fixture(scope="module")
def finished(dashboard: Dashboard) -> UUID:
    """A run, started through the API with another setting for `sample`, that is at its end."""
    numbers = dashboard.root / "metrics" / "sample" / "metrics.json"
    numbers.write_text(json.dumps(json.loads(numbers.read_text()) | {NASTY: 1.0}))
    made = dashboard.start(overrides=["sample.guidance_scale=2.5"])
    assert dashboard.wait(made).startswith("Completed")
    return made


def test_every_stage_of_a_run_has_a_state_and_the_fresh_ones_are_cached(
    dashboard: Dashboard, finished: UUID
) -> None:
    expected = {name: "Completed" if name in AFTER_SAMPLE else "Cached" for name in STAGES}
    becomes(expected, dashboard.tasks, finished, seconds=60, every=LOOKS)


def test_a_stages_output_is_in_the_runs_log_and_whole_in_a_file(dashboard: Dashboard, finished: UUID) -> None:
    name = dashboard.client.read_flow_run(finished).name
    until(lambda: "[report] → artifacts/report" in dashboard.logs(finished), 60, every=LOOKS)
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
        assert artifacts[key].data.startswith("/workspace/pictures/") and len(artifacts[key].data) < 60, (
            "it fits the page"
        )
        with urllib.request.urlopen(dashboard.state["ui"] + artifacts[key].data) as answer:
            assert answer.read() == (dashboard.root / file).read_bytes()
    table = {(row["stage"], row["number"]): row for row in json.loads(artifacts["reproduce-numbers"].data)}
    moved = table["evaluate", "proxy_fd"]
    assert float(moved["now"]) - float(moved["last run"]) == pytest.approx(
        float(moved["difference"]), abs=1e-3
    )
    assert table["train_mqvae", "psnr"]["difference"] == "="
    summary = artifacts["reproduce-summary"].data
    assert "| sample | ran |" in summary and "| shard | cached |" in summary and NASTY not in summary
    assert r"| sample.guidance\_scale | 3.0 | 2.5 |" in summary and "seed" not in summary, (
        "what differs, and nothing else"
    )
    assert "guidance_scale: 3.0" in (dashboard.root / "params.yaml").read_text(), (
        "the run's settings were the run's"
    )
    lock = (dashboard.root / "dvc.lock").read_text().split("\n  sample:")[1]
    assert "guidance_scale: 2.5" in lock, "what was really used is on record"
    link = dashboard.state["ui"] + summary.split("[The report](")[1].split(")")[0]
    with urllib.request.urlopen(link) as answer:
        assert answer.read() == (dashboard.root / "artifacts/report/index.html").read_bytes()


def test_the_form_of_a_deployment_describes_every_parameter(dashboard: Dashboard) -> None:
    names = {found.name for found in dashboard.client.read_deployments()}
    assert names == {name.split("/")[1] for name in DEPLOYMENTS.values()}, "names that tell"
    for flow, name in DEPLOYMENTS.items():
        form = dashboard.client.read_deployment_by_name(name).parameter_openapi_schema
        assert form["properties"]
        for name, entry in form["properties"].items():
            assert len(entry["description"]) > 20 and "default" in entry, f"{flow}: {name}"


def test_a_browser_finds_what_a_run_left_and_no_link_of_any_page_leaves_the_machine(
    dashboard: Dashboard, finished: UUID, tmp_path: Path
) -> None:
    ui, pictures = dashboard.state["ui"], Path(os.environ.get("MQVAE_PICTURES", tmp_path))
    numbers = dashboard.artifacts(finished)["reproduce-numbers"]
    summary = dashboard.artifacts(finished)["reproduce-summary"]
    with recorded_browser(ui) as (page, record):
        page.goto(f"{ui}/runs/flow-run/{finished}", wait_until="commit")
        page.get_by_text("Task Runs", exact=True).first.click()
        for name in STAGES:
            page.get_by_text(name, exact=True).first.wait_for()
        until(lambda: page.inner_text("body").count("Cached") >= len(STAGES - AFTER_SAMPLE), 60)
        until(lambda: page.inner_text("body").count("Completed") >= len(AFTER_SAMPLE), 60)
        page.screenshot(path=pictures / "dashboard_run.png")
        page.get_by_text("Artifacts", exact=True).first.click()
        page.get_by_text("reproduce-samples-grid").first.click()
        grid = page.locator("img[src^='/workspace/pictures/']").first
        grid.wait_for()
        page.wait_for_function(
            "image => image.complete && image.naturalWidth > 300", arg=grid.element_handle()
        )
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the link fits"
        page.screenshot(path=pictures / "dashboard_samples.png")
        page.goto(f"{ui}/artifacts/artifact/{numbers.id}", wait_until="commit")
        page.get_by_text("proxy_fd", exact=True).first.wait_for()
        page.screenshot(path=pictures / "dashboard_numbers.png")
        page.goto(f"{ui}/artifacts/artifact/{summary.id}", wait_until="commit")
        with page.context.expect_page() as opened:
            page.get_by_text("The report").first.click()
        opened.value.wait_for_url("**/workspace/artifacts/report/index.html")
        opened.value.get_by_role("heading").first.wait_for()
        opened.value.close()
        left, visited = links_of(page, ui, [f"/runs/flow-run/{finished}", "/v2/runs"])
        assert {"/dashboard", "/runs", "/deployments", "/blocks/catalog", "/settings"} <= visited
        assert len(left) > 5 and not [address for address in left if address.startswith(ui)]
        assert "V2 UI" not in page.inner_text("body")
    assert record.asked == {ui.removeprefix("http://")}, "hosts that the pages' requests went to"
    assert not record.outside, "what came to the proxy: every request that was not for this machine"
    assert not record.dialogs, "a name ran as HTML"


def test_the_servers_processes_talk_to_this_machine_alone(dashboard: Dashboard, finished: UUID) -> None:
    connections = dashboard.connections()
    ends = {connection.raddr.ip for connection in connections if connection.raddr}
    listening = {connection.laddr.ip for connection in connections if connection.status == psutil.CONN_LISTEN}
    assert ends <= {"127.0.0.1"} and listening == {"127.0.0.1"}


def test_two_runs_of_one_workspace_queue_and_one_typed_by_hand_too(dashboard: Dashboard) -> None:
    """The cheapest stage whose settings can be changed: it imports no PyTorch."""
    first = dashboard.start(targets=["shard"], overrides=["shard.samples_per_shard=50"])
    second = dashboard.start(targets=["shard"])
    dashboard.wait(first, "Running", "Completed")
    said = run(dashboard.root, "/usr/bin/env", *(f"{name}={value}" for name, value in ELSEWHERE.items()), "python", "-m",
               "pipelines.reproduce", "shard")  # fmt: skip
    assert (
        "Finished in state Completed()" in said
    )  # it ran or found shard done: the first run's seed was that run's alone
    assert {dashboard.wait(flow_run).split(":")[0] for flow_run in (first, second)} == {"Completed"}
    read = (dashboard.client.read_flow_run(flow_run) for flow_run in (first, second))
    runs = sorted(read, key=lambda found: found.start_time)
    assert runs[0].end_time <= runs[1].start_time


def test_a_second_dashboard_is_refused_and_the_first_goes_on(dashboard: Dashboard) -> None:
    for port in (str(dashboard.state["port"]), "0"):
        said = run(dashboard.root, "python", "-m", "pipelines.dashboard", "--port", port, check=False)
        assert said == f"the dashboard of this workspace is already running at {dashboard.state['ui']}\n"
    assert dashboard.client.hello().status_code == 200 and dashboard.process.poll() is None


STEPS = 600
TRAINED = {"targets": ["train_stackformer"], "overrides": [f"stackformer.steps={STEPS}"]}


def test_a_training_that_is_suspended_ends_and_resumed_it_continues_and_cancelled_it_ends_again(
    dashboard: Dashboard,
) -> None:
    before = (dashboard.root / "params.yaml").read_text()
    training = dashboard.start(**TRAINED)
    dashboard.wait_for_progress(training, 2)
    assert f"steps: {STEPS}" in (dashboard.root / "params.yaml").read_text()
    later = datetime.now(UTC) + timedelta(hours=1)
    details = {"pause_reschedule": True, "pause_timeout": later.isoformat()}
    dashboard.set_state(training, type="PAUSED", name="Suspended", state_details=details)
    dashboard.all_ended()
    reached = newest_checkpoint(dashboard.root)
    assert 0 < reached < STEPS
    until(lambda: (dashboard.root / "params.yaml").read_text() == before, 60)
    said = run(dashboard.root, "dvc", "status", "train_stackformer")
    assert "up to date" in said, "DVC is unlocked, and what the run had removed is back"
    assert dashboard.client.read_flow_run(training).state.name == "Suspended"

    dashboard.client.resume_flow_run(training)
    assert dashboard.wait_for_progress(training, 0, since=datetime.now(UTC)) >= 100 * reached / STEPS
    dashboard.set_state(training, type="CANCELLING")
    dashboard.all_ended()
    assert dashboard.wait(training).startswith("Cancelled")


def test_a_training_continues_after_its_worker_and_then_the_dashboard_were_killed(
    dashboard: Dashboard,
) -> None:
    """Changes the dashboard's port."""
    training = dashboard.start(**TRAINED)
    dashboard.wait_for_progress(training, 2)
    reached = newest_checkpoint(dashboard.root)
    until(lambda: dashboard.family("worker", "start"), 60)[0].kill()
    told = "Crashed: The worker that had this run died"  # a run that is being ended may have said so itself before
    until(lambda: dashboard.wait(training, seconds=240).startswith(told), 60)
    assert not dashboard.stage_processes()

    dashboard.set_state(training, type="SCHEDULED", name="AwaitingRetry")  # as the browser's Retry does
    assert dashboard.wait_for_progress(training, 0, since=datetime.now(UTC)) >= 100 * reached / STEPS
    dashboard.process.kill()
    dashboard.process.wait()
    dashboard.all_ended()
    with ExitStack() as stack:
        dashboard.up(stack)
        assert dashboard.wait(training, "Completed").startswith("Completed")
        curves = (dashboard.root / "metrics/train_stackformer/curves.tsv").read_text().splitlines()[1:]
        logged = [int(line.split("\t")[0]) for line in curves]
        assert logged == sorted(set(logged)) and logged[-1] == STEPS
        until(lambda: f"steps: {STEPS}" not in (dashboard.root / "params.yaml").read_text(), 60)
