"""Connecting to Ray, checking that it can do what is asked, shipping the code, and stopping what was started here."""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from cluster.head import answers, running_head, token_environment
from workspace.code import PACKAGES
from workspace.errors import UserError
from workspace.progress import say
from workspace.settings import Compute

ROOT = Path(__file__).resolve().parent.parent
OBJECT_STORE_BYTES = 100_000_000
ANSWER_SECONDS = 60.0
"""How long a node may take to answer."""
VERSIONS = ("torch", "numpy", "ray", "safetensors")
"""What must be equal on all nodes, beside Python."""
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_worker_niceness": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # a group's end is noticed sooner; Ray's own is 2 s
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "300",  # a busy machine takes longer than Ray's own 60 s
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # workers work in the driver's folder, so that relative paths mean the same
}


@contextmanager
def session(compute: Compute, folder: Path) -> Iterator[None]:
    """Be connected to Ray within the block; `workers: 0` needs none and connects to none.

    `ray_address: local` takes the head that `python -m cluster.head start` left, else starts a Ray of its own and stops
    it at the end; `auto` and addresses connect to what is there, send the code along and look at every node.

    Args:
        compute: where, and how many workers.
        folder: a folder of the run, which every node must reach at the same path.

    Raises:
        UserError: nothing answers at the address, it has less than is asked for, or a node does not fit.
    """
    if compute.workers == 0:
        yield
        return
    address = running_head() if compute.ray_address == "local" else _checked(compute.ray_address)
    if compute.ray_address == "local" and address is not None:
        os.environ.update(token_environment())
    ray = _ray()
    shared: dict[str, Any] = {
        "log_to_driver": False,
        "logging_level": "ERROR",
        "runtime_env": environment(compute),
    }
    try:
        if address is None:
            own = {"include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
            ray.init(address="local", **own, **shared)
        else:
            ray.init(address=address, **shared)
    except ConnectionError as error:
        raise UserError(_nobody(address)) from error
    try:
        preflight(compute, ray.cluster_resources())
        if compute.ray_address != "local":
            check_nodes(folder)
        yield
    finally:
        ray.shutdown()


def environment(compute: Compute) -> dict[str, Any]:
    """The runtime environment of workers: on this machine the code where it lies, elsewhere a copy of it."""
    if compute.ray_address == "local":
        return {"env_vars": {"PYTHONPATH": str(ROOT)} | QUIET}
    modules = [str(ROOT / name) for name in PACKAGES]
    return {"py_modules": modules, "excludes": ["__pycache__"], "env_vars": dict(QUIET)}


def _checked(address: str) -> str:
    """An address to connect to, after a look at whether anybody is there (Ray itself tries for half a minute).

    Raises:
        UserError: it is no HOST:PORT, or nobody is there.
    """
    if address == "auto":
        return address
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdecimal():
        raise UserError(
            f"compute.ray_address is {address}; expected local, auto, or HOST:PORT of a cluster's head"
        )
    if not answers(address):
        raise UserError(_nobody(address))
    return address


def _nobody(address: str | None) -> str:
    return f"no Ray answers at {address} (compute.ray_address): start one with `ray start --head`, or set it to local"


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


def require_room(compute: Compute, gpu: bool) -> int:
    """How many of the workers the nodes that answer have room for, after some were lost.

    Raises:
        UserError: not for a single one; both numbers are named.
    """
    import ray

    kind = "GPU" if gpu else "CPU"
    alive = answering_nodes(_nothing)
    nodes = [node for node in ray.nodes() if node["NodeID"] in alive]
    have = sum(int(node["Resources"].get(kind, 0)) for node in nodes)
    if have < 1:
        raise UserError(
            f"compute.workers = {compute.workers} needs {compute.workers} {kind}s, and the Ray cluster has lost its nodes: "
            f"{have} are left. Mend it and run the same command again; what is finished is kept."
        )
    return min(have, compute.workers)


def _nothing(path: str) -> dict[str, str]:
    return {}


def answering_nodes(question: Any, argument: str = "") -> dict[str, dict[str, str]]:
    """What each living node says to `question(argument)`, by its id; a node that says nothing in time is left out."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ask = ray.remote(num_cpus=0, max_retries=0)(question)
    asked = {}
    for node in ray.nodes():
        if node["Alive"]:
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            asked[ask.options(scheduling_strategy=there).remote(argument)] = node["NodeID"]
    ray.wait(list(asked), num_returns=len(asked), timeout=ANSWER_SECONDS)
    answered = {}
    for ref, node in asked.items():
        try:
            answered[node] = ray.get(ref, timeout=0)
        except ray.exceptions.RayError as silent:
            if "RayTaskError" in type(silent).__name__:
                raise
    return answered


def describe_node(probe: str) -> dict[str, str]:
    """What a node is asked before work: its versions, and what it reads in a file of the run's folder."""
    found = {name: version(name) for name in VERSIONS}
    seen = Path(probe).read_text(encoding="utf-8") if Path(probe).is_file() else ""
    return found | {"Python": platform.python_version(), "probe": seen}


def check_nodes(folder: Path) -> None:
    """Look at every node: it answers, reaches the run's folder, and has the driver's versions.

    Raises:
        UserError: one does not; it is named by its address.
    """
    import ray

    folder.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile("w", dir=folder, prefix=".probe-") as probe:
        probe.write("seen")
        probe.flush()
        here = describe_node(probe.name)
        answered = answering_nodes(describe_node, probe.name)
    for node in ray.nodes():
        if node["Alive"]:
            check_node(node["NodeManagerAddress"], answered.get(node["NodeID"]), here, folder)
    say(f"Ray: {len(answered)} nodes answer, reach {folder} and have the same versions")


def check_node(name: str, there: dict[str, str] | None, here: dict[str, str], folder: Path) -> None:
    """Hold what a node said against what holds here.

    Raises:
        UserError: it said nothing, does not reach the folder, or has another version.
    """
    if there is None:
        raise UserError(f"node {name} does not answer within {ANSWER_SECONDS:.0f} s: remove it, or mend it")
    if there["probe"] != here["probe"]:
        raise UserError(
            f"node {name} does not reach {folder}: the project's folder must lie on storage that every node has "
            "mounted at the same path (NFS, a shared volume)"
        )
    for package, expected in here.items():
        if there[package] != expected:
            raise UserError(
                f"node {name} has {package} {there[package]}, and here it is {expected}: install the same versions there "
                "(constraints.txt)"
            )
