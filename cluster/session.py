"""Connects to Ray, checks that it has the requested resources, ships the code, and stops what this process started."""

import os
import platform
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from cluster.devices import gpu_trouble
from cluster.head import answers, running_head, token_environment
from cluster.leftovers import place, remove_dead
from cluster.losses import is_relayed
from workspace.code import PACKAGES
from workspace.errors import UserError
from workspace.progress import say
from workspace.settings import Compute
from workspace.versions import OF_NODES, versions

ROOT = Path(__file__).resolve().parent.parent
OBJECT_STORE_BYTES = 100_000_000
ANSWER_SECONDS = 60.0
"""Seconds within which a node must answer."""
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_worker_niceness": "0",
    "RAY_prestart_worker_first_driver": "0",  # prestarted workers would lack our environment
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # notice the end of a group sooner; Ray's default is 2 s
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "300",  # a busy machine takes longer than Ray's default of 60 s
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # workers run in the driver's folder, so that relative paths mean the same
}


@dataclass(frozen=True)
class Granted:
    """The resources that a run gets from a cluster.

    Attributes:
        compute: the requested settings, with the number of workers granted.
        gpu: whether each worker has a GPU.
    """

    compute: Compute
    gpu: bool


@contextmanager
def session(compute: Compute, folder: Path) -> Iterator[Granted]:
    """Connect to Ray within the block; yields the resources to use.

    `ray_address: local` uses the head of `python -m cluster.head start`, if there is one; else it starts a Ray and stops it
    at the end. `auto` and addresses connect to a running cluster, ship the code and check every node.

    Args:
        compute: the address, and the number of workers.
        folder: the run's folder, which every node must reach at the same path.

    Raises:
        UserError: nothing answers at the address, the cluster has too few resources, or a node does not fit.
    """
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
            remove_dead()
            own = {
                "include_dashboard": False,
                "object_store_memory": OBJECT_STORE_BYTES,
                "_temp_dir": str(place()),
            }
            ray.init(address="local", **own, **shared)
        else:
            ray.init(address=address, **shared)
    except ConnectionError as error:
        raise UserError(_nobody(address)) from error
    try:
        granted = granted_of(compute, ray.cluster_resources())
        if compute.ray_address != "local":
            check_nodes(folder)
        yield granted
    finally:
        ray.shutdown()
        if address is None:
            remove_dead(of=os.getpid())


def environment(compute: Compute) -> dict[str, Any]:
    """The workers' runtime environment: the code in place on this machine, a copy of it elsewhere."""
    if compute.ray_address == "local":
        return {"env_vars": {"PYTHONPATH": str(ROOT)} | QUIET}
    modules = [str(ROOT / name) for name in PACKAGES]
    return {"py_modules": modules, "excludes": ["__pycache__"], "env_vars": dict(QUIET)}


def _checked(address: str) -> str:
    """The address to connect to, after checking that something listens there (Ray itself would try for half a minute).

    Raises:
        UserError: not HOST:PORT, or nothing is listening.
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


def granted_of(compute: Compute, resources: Mapping[str, float]) -> Granted:
    """The resources to use: the requested ones, or fewer with `device: auto`.

    Raises:
        UserError: more workers than GPUs or CPUs and the device is not auto; the error names both numbers.
    """
    gpu = takes_gpus(compute, int(resources.get("GPU", 0)))
    kind = "GPU" if gpu else "CPU"
    have = int(min(resources.get(name, 0) for name in {kind, "CPU"}))
    workers = compute.workers
    if workers > have:
        if compute.device != "auto" or have < 1:
            other = ", or set compute.device: auto" if gpu else ""
            raise UserError(
                f"compute.workers = {workers} needs {workers} {kind}s; this Ray cluster has {have}. Lower compute.workers{other}."
            )
        say(
            f"compute.workers is {workers}, and this Ray cluster has {counted(have, kind)}: {counted(have, 'worker')}"
        )
        workers = have
    return Granted(compute.model_copy(update={"workers": workers}), gpu)


def counted(number: int, what: str) -> str:
    """`1 GPU`, `2 GPUs`."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def takes_gpus(compute: Compute, gpus: int) -> bool:
    """Whether each worker gets a GPU: if requested, or with auto if Ray has some that torch can use.

    Raises:
        UserError: cuda is requested, but torch cannot use a GPU, or only on some nodes.
    """
    if compute.device == "cpu" or (compute.device == "auto" and not gpus):
        return False
    if not gpus:
        raise UserError(
            "compute.device is cuda, but this Ray cluster has no GPU; set compute.device: cpu, or auto"
        )
    answers = gpu_answers()
    broken = {name: why for name, why in answers.items() if why}
    if not broken:
        return True
    name, why = next(iter(broken.items()))
    told = f"this Ray cluster has {counted(gpus, 'GPU')}, which torch cannot use on node {name} ({why})"
    if compute.device == "cuda" or len(broken) < len(answers):
        raise UserError(f"{told}: fix that, or set compute.device: cpu")
    say(f"{told}: computing on CPUs")
    return False


def gpu_answers() -> dict[str, str]:
    """Each GPU node's address → why torch cannot compute on its GPU, or ""."""
    import ray

    nodes = {node["NodeID"]: node for node in ray.nodes() if node["Alive"] and node["Resources"].get("GPU")}
    answers = answering_nodes(ask_torch, only=nodes)
    return {
        node["NodeManagerAddress"]: answers.get(name, {"why": f"no answer in {ANSWER_SECONDS:.0f} s"})["why"]
        for name, node in nodes.items()
    }


def ask_torch(_: str) -> dict[str, str]:
    """Runs on a GPU node: why torch cannot compute on its GPU, or ""."""
    # Ray hides the GPUs from a task that requested none
    if not os.environ.get("CUDA_VISIBLE_DEVICES", "all"):
        del os.environ["CUDA_VISIBLE_DEVICES"]
    return {"why": gpu_trouble()}


def require_room(compute: Compute, gpu: bool) -> int:
    """The number of workers that the remaining nodes have room for, after some were lost.

    Raises:
        UserError: no room for a single worker; the error names both numbers.
    """
    import ray

    kind = "GPU" if gpu else "CPU"
    alive = answering_nodes(_nothing)
    nodes = [node for node in ray.nodes() if node["NodeID"] in alive]
    have = sum(int(node["Resources"].get(kind, 0)) for node in nodes)
    if have < 1:
        raise UserError(
            f"compute.workers = {compute.workers} needs {compute.workers} {kind}s, but the Ray cluster has lost its nodes: "
            f"{have} are left. Fix it and run the same command again; what is finished is kept."
        )
    return min(have, compute.workers)


def require_living(granted: Granted) -> None:
    """Ask all nodes to answer if Ray knows none with room for a worker.

    Raises:
        UserError: as in `require_room`.
    """
    import ray

    kind = "GPU" if granted.gpu else "CPU"
    if not any(node["Alive"] and node["Resources"].get(kind, 0) >= 1 for node in ray.nodes()):
        require_room(granted.compute, granted.gpu)


def _nothing(path: str) -> dict[str, str]:
    return {}


def answering_nodes(
    question: Any, argument: str = "", only: Container[str] | None = None
) -> dict[str, dict[str, str]]:
    """Node id → the result of `question(argument)` on that node, for all living nodes or some; late answers are left out."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    # max_calls ends the process, which releases the GPU
    ask = ray.remote(num_cpus=0, max_retries=0, max_calls=1)(question)
    asked = {}
    for node in ray.nodes():
        if node["Alive"] and (only is None or node["NodeID"] in only):
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            asked[ask.options(scheduling_strategy=there).remote(argument)] = node["NodeID"]
    ray.wait(list(asked), num_returns=len(asked), timeout=ANSWER_SECONDS)
    answered = {}
    for ref, node in asked.items():
        try:
            answered[node] = ray.get(ref, timeout=0)
        except ray.exceptions.RayError as silent:
            if is_relayed(silent):
                raise
    return answered


def describe_node(probe: str) -> dict[str, str]:
    """Runs on a node before any work: its versions, and the content of a file in the run's folder."""
    seen = Path(probe).read_text(encoding="utf-8") if Path(probe).is_file() else ""
    return versions(OF_NODES) | {"Python": platform.python_version(), "probe": seen}


def check_nodes(folder: Path) -> None:
    """Check that every node answers, reaches the run's folder, and has the driver's versions.

    Raises:
        UserError: one does not; the error names its address.
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
    """Compare a node's answer with the driver's own values.

    Raises:
        UserError: it did not answer, does not reach the folder, or has another version.
    """
    if there is None:
        raise UserError(f"node {name} does not answer within {ANSWER_SECONDS:.0f} s: remove it, or fix it")
    if there["probe"] != here["probe"]:
        raise UserError(
            f"node {name} does not reach {folder}: the project's folder must be on storage that every node has "
            "mounted at the same path (NFS, a shared volume)"
        )
    for package, expected in here.items():
        if (found := there.get(package, "absent")) != expected:
            raise UserError(
                f"node {name} has {package} {found}, but this one has {expected}: install the same versions there "
                "(constraints.txt)"
            )
