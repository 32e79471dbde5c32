"""A running dashboard, as tests drive it: by its API, as the browser's buttons do."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.waiting import matching, slowness, until

psutil = pytest.importorskip("psutil", reason="psutil comes with DVC, which is not installed")

DEPLOYMENTS = {
    "reproduce": "reproduce/run-the-workflow",
    "sweep": "sweep/compare-settings",
    "tables": "tables/tables-of-the-paper",
}
LOOKS = 1.0
"""Seconds between two questions: each costs the server and this process some 50 ms of CPU."""
NOWHERE = "http://127.0.0.1:9"
ELSEWHERE = {
    "PREFECT_API_URL": f"{NOWHERE}/api", "PREFECT_PROFILE": "of-the-user", "HTTP_PROXY": NOWHERE, "http_proxy": NOWHERE,
}  # fmt: skip


@dataclass
class Dashboard:
    """A running dashboard and its workspace."""

    root: Path
    process: "subprocess.Popen[bytes]" = field(init=False)
    state: dict[str, Any] = field(init=False)
    client: Any = None

    def start(self, flow: str = "reproduce", **parameters: Any) -> UUID:
        """Start a run as the browser's form does."""
        deployment = self.client.read_deployment_by_name(DEPLOYMENTS[flow])
        made: UUID = self.client.create_flow_run_from_deployment(deployment.id, parameters=parameters).id
        return made

    def wait(self, flow_run: UUID, *names: str, seconds: float = 300) -> str:
        """Until a run's state has one of these names (none: until it is final)."""
        began = time.monotonic()
        while True:
            state = self.client.read_flow_run(flow_run).state
            if state.name in names or (not names and state.is_final()):
                return f"{state.name}: {state.message}"
            assert time.monotonic() - began < seconds * slowness(), (
                f"the run is {state.name}: {state.message}"
            )
            time.sleep(LOOKS)

    def tasks(self, flow_run: UUID) -> dict[str, str]:
        """Task → state."""
        from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

        only = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run]))
        return {task.name: task.state_name for task in self.client.read_task_runs(flow_run_filter=only)}

    def artifacts(self, flow_run: UUID) -> dict[str, Any]:
        """Key → artifact; of a run that was started again, the newest."""
        from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

        only = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run]))
        found = self.client.read_artifacts(artifact_filter=only)
        return {artifact.key: artifact for artifact in sorted(found, key=lambda artifact: artifact.updated)}

    def logs(self, flow_run: UUID) -> str:
        """Every line of a run's log that the server has."""
        from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId

        only = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[flow_run]))
        return "\n".join(log.message for log in self.client.read_logs(log_filter=only, limit=200))

    def wait_for_progress(self, flow_run: UUID, percent: float, since: datetime | None = None) -> float:
        """The first percentage of at least `percent` that the training's progress artifact shows, changed after `since`."""
        began = time.monotonic()
        while True:
            found = self.artifacts(flow_run).get("progress-train-stackformer")
            if found and float(found.data) >= percent and (since is None or found.updated > since):
                assert "steps" in found.description and "images per second" in found.description
                return float(found.data)
            state = self.client.read_flow_run(flow_run).state
            assert not state.is_final(), f"{state.name}: {state.message}"
            assert time.monotonic() - began < 300 * slowness(), f"the run is {state.name}: {state.message}"
            time.sleep(LOOKS / 2)  # the training must not be over meanwhile

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

    def family(self, *words: str) -> list[Any]:
        """The dashboard's living processes, itself among them, or those with these words on their command line."""
        head = psutil.Process(self.process.pid)
        found = []
        for process in [head, *head.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):  # it has just ended
                if set(words) <= set(process.cmdline()):
                    found.append(process)
        return found

    def connections(self) -> list[Any]:
        """What these processes have open on the network."""
        found = []
        for process in self.family():
            with suppress(psutil.NoSuchProcess):
                found += process.net_connections(kind="inet")
        return found

    def set_state(self, flow_run: UUID, **state: Any) -> None:
        """Set a run's state as the browser's buttons do."""
        request = urllib.request.Request(
            f"{self.state['api']}/flow_runs/{flow_run}/set_state",
            data=json.dumps({"state": state, "force": state["type"] == "SCHEDULED"}).encode(),
            headers={"Content-Type": "application/json"},
        )
        urllib.request.urlopen(request).close()

    def all_ended(self) -> None:
        """Until no stage and no DVC runs, ten seconds at most."""
        asked_at = time.monotonic()
        until(lambda: not self.stage_processes(), 60, every=0.25)
        assert time.monotonic() - asked_at < 10 * slowness()

    def up(self, stack: ExitStack, *options: str) -> None:
        """Start the dashboard and wait until it runs; `stack` closes the client."""
        from prefect.client.orchestration import get_client
        from prefect.settings import PREFECT_API_URL, temporary_settings

        plain = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pipelines.dashboard", "--port", "0", *options],
            cwd=self.root,
            env=plain | ELSEWHERE | {"PYTHONPATH": str(self.root), "OMP_NUM_THREADS": "1"},
        )
        file = self.root / ".runs" / "prefect" / "dashboard.json"

        def up() -> bool:
            assert self.process.poll() is None, "the dashboard did not start"
            return file.is_file() and json.loads(file.read_text())["process"] == self.process.pid

        until(up, 240, every=0.2)
        self.state = json.loads(file.read_text())
        stack.enter_context(temporary_settings({PREFECT_API_URL: self.state["api"]}))
        self.client = stack.enter_context(get_client(sync_client=True))


def newest_checkpoint(root: Path) -> int:
    """The step of the training's newest checkpoint."""
    steps = matching(root / ".runs" / "train_stackformer", "*/work/step-*")
    return max((int(path.name.split("-")[1]) for path in steps), default=0)
