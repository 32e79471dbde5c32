"""Deploys prefect.yaml to the server: a work pool, a queue per deployment, the deployments; removes old ones."""

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from pipelines.home import BIN, HOME
from pipelines.interrupted import client_of

POOL = "mqvae"


class DeployError(RuntimeError):
    """Prefect refuses a deployment; one line."""


def deploy(api: str, root: Path, environment: Mapping[str, str]) -> None:
    """Create the pool and the queues, and apply prefect.yaml.

    A queue runs one run of its deployment at a time. A deployment's concurrency limit would do the same with a lease, but Prefect
    ends a run whose lease cannot be renewed, so a server that is briefly unreachable would cost hours of training.

    Raises:
        DeployError: Prefect refuses.
    """
    wanted = yaml.safe_load((root / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
    queues = [str(entry["work_pool"]["work_queue_name"]) for entry in wanted]
    with client_of(api) as client:
        _make_pool(client, queues)
    log = root / HOME / "deploy.log"
    done = subprocess.run(
        [str(BIN / "prefect"), "--no-prompt", "deploy", "--all"],
        cwd=root,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    log.write_text(done.stdout + done.stderr, encoding="utf-8")
    if done.returncode:
        raise DeployError(f"`prefect deploy --all` failed; see {log}")
    with client_of(api) as client:
        _forget_others(client, {(entry["entrypoint"], entry["name"]) for entry in wanted})


def _make_pool(client: Any, queues: list[str]) -> None:
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectNotFound

    try:
        client.read_work_pool(POOL)
    except ObjectNotFound:
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
    there = {queue.name: queue for queue in client.read_work_queues(work_pool_name=POOL)}
    for name in queues:
        if name not in there:
            client.create_work_queue(name=name, work_pool_name=POOL, concurrency_limit=1)


def _forget_others(client: Any, wanted: set[tuple[str, str]]) -> None:
    """Remove deployments of this project's flows whose names are no longer in prefect.yaml."""
    for found in client.read_deployments():
        ours = str(found.entrypoint or "").startswith("pipelines/")
        if ours and (found.entrypoint, found.name) not in wanted:
            client.delete_deployment(found.id)
