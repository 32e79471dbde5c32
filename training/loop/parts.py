"""Checkpoints of a model whose weights are split over workers: each worker writes its part, behind the steps that follow.

torch.distributed.checkpoint does it, with its storage of safetensors (the usual one holds pickles, which are not read here).
Names of tensors are those of a whole checkpoint, so either kind is read by any number of workers, split or not.
"""

import shutil
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn
from torch.optim import Optimizer

from training.loop.parallel import summing

BESIDE = ".writing-parts"


class PartsWriter:
    """Writes one checkpoint at a time in the background; every worker has one.

    Args:
        rank: of this worker; rank 0 seals and renames what all have written.
        seal: called by rank 0 with the folder of the parts and the facts, when all are written.
    """

    def __init__(self, rank: int, seal: Callable[[Path, Mapping[str, Any]], None]) -> None:
        self.rank, self.seal = rank, seal
        self.group = torch.distributed.new_group(backend="gloo")  # its own: the steps go their way meanwhile
        self._thread = ThreadPoolExecutor(1)
        self._pending: Future[Any] | None = None

    def write(self, folder: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Copy this worker's parts to the host, and return while they are written.

        Args:
            folder: of the run's checkpoints, on storage that all workers reach.
            tensors: whole ones, equal on all workers, and DTensors.
            facts: what belongs into state.json.
        """
        from torch.distributed.checkpoint import HuggingFaceStorageWriter, async_save

        self.wait()
        beside = folder / BESIDE
        if self.rank == 0:
            shutil.rmtree(beside, ignore_errors=True)  # left by a killed group
            beside.mkdir(parents=True)
        with summing():
            torch.distributed.barrier(self.group)
            storage = HuggingFaceStorageWriter(str(beside), save_distributed=True)
            written = async_save(dict(tensors), storage_writer=storage, process_group=self.group)
        assert isinstance(written, Future)
        self._pending = (
            self._thread.submit(self._finish, written, beside, facts) if self.rank == 0 else written
        )

    def _finish(self, written: Future[Any], beside: Path, facts: Mapping[str, Any]) -> None:
        written.result()
        self.seal(beside, facts)

    def wait(self) -> None:
        """Wait until the last checkpoint is whole.

        Raises:
            PeerLostError: a worker is gone.
            OSError: it cannot be written.
        """
        if self._pending is not None:
            with summing():
                self._pending.result()
            self._pending = None
            with summing():
                torch.distributed.barrier(self.group)


def read_parts(
    path: Path, modules: Mapping[str, nn.Module], optimizers: Mapping[str, Optimizer], split: bool
) -> dict[str, Tensor]:
    """A checkpoint's tensors, as far as it has them, each split as the module's, or the optimiser's weight, is now.

    Args:
        path: the checkpoint, whole or in parts.
        modules: name → module.
        optimizers: name → optimiser.
        split: whether the weights are split over workers, who then all call this.
    """
    from torch.distributed.checkpoint import HuggingFaceStorageReader, load

    storage = HuggingFaceStorageReader(str(path))
    stored = storage.read_metadata().state_dict_metadata
    found: dict[str, Tensor] = {}
    for name, module in modules.items():
        state = {f"module/{name}/{key}": value for key, value in module.state_dict().items()}
        found |= {key: torch.empty_like(value) for key, value in state.items() if key in stored}
    weights = {
        name: [weight for group in optimizer.param_groups for weight in group["params"]]
        for name, optimizer in optimizers.items()
    }
    for key, there in stored.items():
        if key.startswith("optimizer/"):
            _, name, index, _ = key.split("/", 3)
            weight, size = weights[name][int(index)].detach(), there.size  # type: ignore[union-attr]
            dtype = there.properties.dtype  # type: ignore[union-attr]
            like_weight = size == weight.shape and len(size) > 0
            found[key] = (
                torch.empty_like(weight, dtype=dtype) if like_weight else torch.empty(size, dtype=dtype)
            )
    with warnings.catch_warnings():  # that there is one process only
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        load(found, storage_reader=storage, no_dist=not split)
    return found
