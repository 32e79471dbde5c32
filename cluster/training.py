"""`fit`: one function run by a group of workers that train together, on Ray Train or in this process.

The worker's loop is a plain function of a config and its group. It writes checkpoints to the run's folder and resumes from the
newest one. If a worker or node dies, a new group therefore starts from there, with as many workers as there is room for,
because a step does not depend on their number.

Ray's own retries (`FailureConfig.max_failures`) are left at 0, because they would also retry a user's mistake, and would wait
forever for a node that does not return.
"""

import logging
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from cluster.back import watched_for_room
from cluster.devices import device_of, reproducible, use_threads
from cluster.losses import is_loss, is_relayed
from cluster.session import Granted, require_room, session
from cluster.trainer import trainer_of
from cluster.watching import shown
from workspace.errors import (
    RegroupError,
    UserError,
    first_line,
    is_out_of_memory,
    is_out_of_space,
    out_of_space,
)
from workspace.progress import say
from workspace.runs import REGROUP
from workspace.settings import Compute

Config = TypeVar("Config")
ATTEMPTS = 3
"""Number of consecutive groups that may die without a new checkpoint before the training gives up."""


@dataclass(frozen=True)
class WorkerGroup:
    """The group, as seen by one of its workers.

    Attributes:
        rank: 0 … size - 1.
        size: workers in the group; with more than one, torch.distributed is set up.
        device: where this worker computes.
    """

    rank: int
    size: int
    device: torch.device


def fit(
    worker: Callable[[Config, WorkerGroup], None], config: Config, compute: Compute, folder: Path
) -> None:
    """Run `worker(config, group)` on `compute.workers` workers, or once in this process if that is 0.

    Args:
        worker: an importable function.
        config: plain values, sent to each worker.
        compute: the number of workers, their address, and threads per worker.
        folder: the run's folder, absolute, on storage that all nodes reach; its `progress.json` is displayed.

    Raises:
        UserError: the cluster has too few resources, or lost all its nodes.
        Exception: any error from a worker, without a retry.
        RuntimeError: workers died three times without a new checkpoint.
    """
    if compute.workers == 0:
        forget_room(folder)
        use_threads(compute.threads_per_worker)
        with reproducible(compute.deterministic):
            worker(config, WorkerGroup(0, 1, device_of(compute.device)))
        return
    with session(compute, folder) as granted, shown(folder / "progress.json"):
        _fit_on_ray(worker, config, granted, folder)
    shutil.rmtree(folder / "ray", ignore_errors=True)


def _fit_on_ray(
    worker: Callable[[Config, WorkerGroup], None], config: Config, granted: Granted, folder: Path
) -> None:
    """Run groups, one after another, until one finishes."""
    import ray

    logging.getLogger("ray.train").setLevel(logging.ERROR)
    compute, gpu = granted.compute, granted.gpu
    size, in_vain = compute.workers, 0
    while True:
        before = _newest_checkpoint(folder)
        forget_room(folder)
        try:
            with watched_for_room(granted, size, folder) if size < compute.workers else nullcontext():
                _one_group(worker, config, compute, size, gpu, folder)
        except ray.train.TrainingFailedError as error:
            if any(isinstance(found, RegroupError) for found in _causes(error)):
                size, in_vain = require_room(compute, gpu), 0
                say(f"{size} of {compute.workers} workers continue from the last checkpoint")
                continue
            raised = _mistake(error)
            if raised is not None:
                raise raised from error
            # a new checkpoint means progress; without one the same cause would kill every group
            in_vain = in_vain + 1 if _newest_checkpoint(folder) == before else 0
            if in_vain == ATTEMPTS:
                raise RuntimeError(
                    f"training workers died {ATTEMPTS} times without a new checkpoint: {_told(error)}"
                ) from error
            size = require_room(compute, gpu)
            say(
                f"a training worker died ({_told(error)}): {size} of {compute.workers} workers continue from the last checkpoint"
            )
        else:
            return


def forget_room(folder: Path) -> None:
    """Take back what asks a group to end: it was for one that is gone, perhaps with the process that asked."""
    (folder / "work" / REGROUP).unlink(missing_ok=True)


def _one_group(
    worker: Callable[[Config, WorkerGroup], None],
    config: Config,
    compute: Compute,
    size: int,
    gpu: bool,
    folder: Path,
) -> None:
    """Run one group of `size` workers to its end.

    Raises:
        TrainingFailedError: a worker raised something or died.
    """
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig

    shutil.rmtree(folder / "ray", ignore_errors=True)  # Ray's state from an earlier group
    given = {
        "worker": worker,
        "config": config,
        "threads": compute.threads_per_worker,
        "gpu": gpu,
        "deterministic": compute.deterministic,
        "cwd": str(Path.cwd()),
    }
    trainer = trainer_of(compute.ray_address == "local")(
        _ray_worker,
        train_loop_config=given,
        scaling_config=ScalingConfig(
            num_workers=size,
            use_gpu=gpu,
            resources_per_worker={"CPU": 1} | ({"GPU": 1} if gpu else {}),
        ),
        torch_config=TorchConfig(backend="nccl" if gpu else "gloo"),
        run_config=RunConfig(
            name="train",
            storage_path=str(folder / "ray"),
            # no retries by Ray, which would restart with the same size: we restart with as many workers as there is room for
            failure_config=FailureConfig(max_failures=0, controller_failure_limit=0),
        ),
    )
    with own_interrupts():
        trainer.fit()


@contextmanager
def own_interrupts() -> Iterator[None]:
    """Restore the Ctrl-C handler after the block: Ray Train installs its own, with which a later Ctrl-C would wait for a
    cluster that no longer exists."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)


def _newest_checkpoint(folder: Path) -> str:
    """The name of a run's last checkpoint, or ""; names sort by step because of leading zeros."""
    return max((path.name for path in (folder / "work").glob("step-*")), default="")


def _causes(error: Exception) -> list[BaseException]:
    """The errors that the workers raised, and their causes."""
    failures: dict[int, BaseException] = getattr(error, "worker_failures", {})
    chains = ((one, getattr(one, "cause", None), one.__cause__) for one in failures.values())
    return [found for chain in chains for found in chain if found is not None and not is_relayed(found)]


def _mistake(error: Exception) -> Exception | None:
    """The error to raise at once, because a retry would not help; None if a worker, a node or a connection is gone."""
    causes = _causes(error)
    for found in causes:
        if isinstance(found, UserError):
            return UserError(str(found))
        if is_out_of_space(found):
            return out_of_space(found)
        if is_out_of_memory(found):
            return RuntimeError(first_line(found))
    slips = [found for found in causes if not is_loss(found)]
    return next((slip for slip in slips if isinstance(slip, Exception)), error if slips else None)


def _told(error: Exception) -> str:
    """Why a group ended, in one line."""
    causes = _causes(error)
    died = [found for found in causes if "died" in type(found).__name__.lower()]
    return first_line((died or causes or [getattr(error, "controller_failure", error)])[0])


def _ray_worker(given: dict[str, Any]) -> None:
    """The function that Ray Train runs in each worker."""
    import ray.train
    import ray.train.torch

    os.chdir(given["cwd"])
    use_threads(given["threads"])
    context = ray.train.get_context()
    device = ray.train.torch.get_device() if given["gpu"] else torch.device("cpu")

    group = WorkerGroup(context.get_world_rank(), context.get_world_size(), device)
    with reproducible(given["deterministic"]):
        given["worker"](given["config"], group)
