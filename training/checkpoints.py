"""Checkpoints: weights, EMA, optimiser moments and the step, as safetensors and JSON, each written whole.

A checkpoint is a folder `step-000123/` (123 steps are done). All randomness of training is keyed by (seed, step,
sample), so the step is also the state of every generator and of the data order.
"""

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from workspace.manifest import read_json, write_json

KEEP = 2


def save_checkpoint(
    folder: Path, step: int, modules: Mapping[str, nn.Module], optimizers: Mapping[str, Optimizer]
) -> Path:
    """Write `folder/step-…` atomically and remove all but the newest two.

    Args:
        folder: where the run's checkpoints are.
        step: how many steps are done.
        modules: name → module whose state is kept.
        optimizers: name → optimiser whose moments are kept.
    """
    tensors: dict[str, Tensor] = {}
    groups: dict[str, Any] = {}
    for name, module in modules.items():
        tensors |= {f"module/{name}/{key}": value for key, value in module.state_dict().items()}
    for name, optimizer in optimizers.items():
        state = optimizer.state_dict()
        groups[name] = state["param_groups"]
        for index, values in state["state"].items():
            tensors |= {
                f"optimizer/{name}/{index}/{key}": torch.as_tensor(value) for key, value in values.items()
            }
    folder.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(dir=folder, prefix=".writing-"))
    save_file(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
        beside / "state.safetensors",
    )
    write_json(beside / "state.json", {"step": step, "optimizers": groups})
    target = folder / f"step-{step:09d}"
    if target.exists():
        shutil.rmtree(target)
    beside.rename(target)
    for old in list_checkpoints(folder)[:-KEEP]:
        shutil.rmtree(old)
    return target


def list_checkpoints(folder: Path) -> list[Path]:
    """The whole checkpoints below `folder`, oldest first."""
    return sorted(folder.glob("step-*"))


def load_checkpoint(path: Path, modules: Mapping[str, nn.Module], optimizers: Mapping[str, Optimizer]) -> int:
    """Restore modules and optimisers in place; returns how many steps were done.

    Raises:
        RuntimeError: the tensors do not fit the modules.
    """
    state = read_json(path / "state.json")
    tensors = load_file(path / "state.safetensors")
    for name, module in modules.items():
        module.load_state_dict(_under(tensors, f"module/{name}/"))
    for name, optimizer in optimizers.items():
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in _under(tensors, f"optimizer/{name}/").items():
            index, _, field = key.partition("/")
            moments.setdefault(int(index), {})[field] = value
        optimizer.load_state_dict({"state": moments, "param_groups": state["optimizers"][name]})
    step: int = state["step"]
    return step


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
