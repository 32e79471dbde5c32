"""`fit`: one function run by a group of workers that train together, on Ray Train or in this process.

The worker's loop is a plain function of a config and its group; checkpoints are files of its own in the run's folder, and
it finds the newest itself, so that a restarted group goes on, with as many workers as there are then.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from cluster.devices import device_of, threads_of, use_threads
from cluster.session import session, wants_gpu
from cluster.watching import shown
from workspace.errors import UserError
from workspace.settings import Compute

Config = TypeVar("Config")
Report = Callable[[dict[str, float], Path | None], None]


@dataclass(frozen=True)
class WorkerGroup:
    """The group, as seen by one of its workers.

    Attributes:
        rank: 0 … size - 1.
        size: workers in the group; with more than one, torch.distributed is set up.
        device: where this worker computes.
        report: tell the cluster numbers, and the checkpoint that was just written.
    """

    rank: int
    size: int
    device: torch.device
    report: Report


def fit(
    worker: Callable[[Config, WorkerGroup], None], config: Config, compute: Compute, folder: Path
) -> None:
    """Run `worker(config, group)` on `compute.workers` workers, or once in this process where that is 0.

    Args:
        worker: an importable function.
        config: plain values, sent to each worker.
        compute: how many, where, with how many threads.
        folder: the run's folder, absolute, on storage that all nodes reach; `progress.json` in it is shown here.

    Raises:
        UserError: the cluster has less than is asked for.
        ValueError: what the worker raised.
    """
    if compute.workers == 0:
        use_threads(threads_of(compute))
        worker(config, WorkerGroup(0, 1, device_of(compute.device), _nobody))
        return
    with session(compute), shown(folder / "progress.json"):
        _fit_on_ray(worker, config, compute, folder)


def _nobody(numbers: dict[str, float], checkpoint: Path | None) -> None:
    """Reports go nowhere in one process."""


def _fit_on_ray(
    worker: Callable[[Config, WorkerGroup], None], config: Config, compute: Compute, folder: Path
) -> None:
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    logging.getLogger("ray.train").setLevel(logging.ERROR)
    gpu = wants_gpu(compute, ray.cluster_resources())
    trainer = TorchTrainer(
        _ray_worker,
        train_loop_config={"worker": worker, "config": config, "threads": threads_of(compute), "gpu": gpu},
        scaling_config=ScalingConfig(
            num_workers=compute.workers,
            use_gpu=gpu,
            resources_per_worker={"CPU": 1} | ({"GPU": 1} if gpu else {}),
        ),
        torch_config=TorchConfig(backend="nccl" if gpu else "gloo"),
        run_config=RunConfig(
            name="train", storage_path=str(folder / "ray"), failure_config=FailureConfig(max_failures=0)
        ),
    )
    try:
        trainer.fit()
    except ray.train.TrainingFailedError as error:
        raise _cause(error) from error


def _cause(error: Exception) -> Exception:
    """The first worker's own exception where it was a ValueError, else Ray's."""
    failures: dict[int, BaseException] = getattr(error, "worker_failures", {})
    for failure in failures.values():
        for found in (failure, getattr(failure, "cause", None), failure.__cause__):
            if isinstance(found, UserError):
                return UserError(str(found))
            if isinstance(found, ValueError):
                return ValueError(str(found))
    return error


def _ray_worker(given: dict[str, Any]) -> None:
    """What Ray Train runs in each worker."""
    import ray.train
    import ray.train.torch

    use_threads(given["threads"])
    context = ray.train.get_context()
    device = ray.train.torch.get_device() if given["gpu"] else torch.device("cpu")

    def report(numbers: dict[str, float], checkpoint: Path | None) -> None:
        ray.train.report(numbers)

    given["worker"](
        given["config"], WorkerGroup(context.get_world_rank(), context.get_world_size(), device, report)
    )
