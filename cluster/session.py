"""Connecting to Ray, checking that it can do what is asked, and stopping what was started here."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cluster.head import running_head, token_environment
from workspace.errors import UserError
from workspace.settings import Compute

ROOT = Path(__file__).resolve().parent.parent
OBJECT_STORE_BYTES = 100_000_000
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # a report holds training up until it is asked for; Ray's own is 2 s
}


@contextmanager
def session(compute: Compute) -> Iterator[None]:
    """Be connected to Ray within the block; `workers: 0` needs none and connects to none.

    `ray_address: local` takes the head that `python -m cluster.head start` left, else starts a Ray of its own and stops
    it at the end; `auto` and addresses connect to what is there.

    Raises:
        UserError: nothing answers at the address, or it has less than is asked for.
    """
    if compute.workers == 0:
        yield
        return
    address = running_head() if compute.ray_address == "local" else compute.ray_address
    if compute.ray_address == "local" and address is not None:
        os.environ.update(token_environment())
    ray = _ray()
    environment = {"env_vars": {"PYTHONPATH": str(ROOT)} | QUIET}
    shared: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "runtime_env": environment}
    try:
        if address is None:
            own = {"include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
            ray.init(address="local", **own, **shared)
        else:
            ray.init(address=address, **shared)
    except ConnectionError as error:
        raise UserError(
            f"no Ray answers at {address} (compute.ray_address): start one with `ray start --head`"
        ) from error
    try:
        preflight(compute, ray.cluster_resources())
        yield
    finally:
        ray.shutdown()


def _ray() -> Any:
    os.environ.update(QUIET)
    try:
        import ray
    except ImportError as error:
        raise UserError(
            'compute.workers > 0 needs Ray: pip install "ray[train]", or set compute.workers: 0'
        ) from error
    return ray


def preflight(compute: Compute, resources: dict[str, float]) -> None:
    """Refuse at once what Ray would wait for without end.

    Raises:
        UserError: more workers than there are GPUs or CPUs; both numbers are named.
    """
    kind = "GPU" if wants_gpu(compute, resources) else "CPU"
    have = int(resources.get(kind, 0))
    if compute.workers > have:
        other = ", or set compute.device: cpu" if kind == "GPU" else ""
        raise UserError(
            f"compute.workers = {compute.workers} needs {compute.workers} {kind}s; this Ray cluster has {have}. "
            f"Lower compute.workers{other}."
        )


def wants_gpu(compute: Compute, resources: dict[str, float]) -> bool:
    """Whether workers get a GPU each: asked for, or auto and the cluster has some."""
    return compute.device == "cuda" or (compute.device == "auto" and resources.get("GPU", 0) > 0)
