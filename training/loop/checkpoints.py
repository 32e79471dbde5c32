"""Checkpoints: weights, EMA, optimiser moments and the step, as safetensors and JSON, written atomically with checksums.

A checkpoint is a folder `step-000123/` (123 steps are done). All randomness of training is keyed by (seed, step,
sample), so the step is also the state of every generator and of the data order.
"""

import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from training.loop.best import Best
from training.loop.parallel import is_split, local
from training.loop.parts import read_parts
from workspace.errors import UserError
from workspace.exact.manifest import read_sealed, sha256_file, write_sealed
from workspace.progress import say
from workspace.runs import STATE

KEEP = 2
KERNELS = ("fused", "foreach")
TENSORS, WRITING = "state.safetensors", ".writing-"


def save_checkpoint(
    folder: Path,
    step: int,
    modules: Mapping[str, nn.Module],
    optimizers: Mapping[str, Optimizer],
    scaler: GradScaler | None = None,
) -> Path:
    """Write `folder/step-…` atomically and remove all but the newest two.

    Args:
        folder: folder of the run's checkpoints.
        step: number of finished steps.
        modules: name → module whose state is saved.
        optimizers: name → optimiser whose moments are saved.
        scaler: the loss scale, saved where it is in use.

    Raises:
        UserError: a weight is not finite; saving it would replace a good checkpoint.
    """
    tensors, facts = collected(step, modules, optimizers, scaler)
    folder.mkdir(parents=True, exist_ok=True)
    for torn in folder.glob(f"{WRITING}*"):  # left by a killed process
        shutil.rmtree(torn)
    beside = Path(tempfile.mkdtemp(dir=folder, prefix=WRITING))
    save_file(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, beside / TENSORS
    )
    return seal(beside, facts)


def collected(
    step: int,
    modules: Mapping[str, nn.Module],
    optimizers: Mapping[str, Optimizer],
    scaler: GradScaler | None,
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A checkpoint's tensors by name, and its other facts; see `save_checkpoint`."""
    tensors: dict[str, Tensor] = {}
    groups: dict[str, Any] = {}
    learning = names_of(modules, optimizers)
    for name, module in modules.items():
        tensors |= {f"module/{name}/{key}": value for key, value in module.state_dict().items()}
    for name, optimizer in optimizers.items():
        state = optimizer.state_dict()
        groups[name] = state["param_groups"]
        for index, values in state["state"].items():
            tensors |= {
                f"optimizer/{name}/{index}/{key}": torch.as_tensor(value) for key, value in values.items()
            }
    for name, tensor in tensors.items():
        if not name.startswith("module/") or not tensor.is_floating_point():
            continue
        if not torch.isfinite(local(tensor)).all():
            raise UserError(
                f"step {step}: the weights {name.removeprefix('module/')} are not finite; lower the learning rate, or clip "
                "gradients (the previous checkpoint is kept)"
            )
    scale = scaler.state_dict() if scaler is not None else {}
    facts = {"step": step, "optimizers": groups, "learning": learning}
    return tensors, facts | ({"scaler": scale} if scale else {})


def names_of(
    modules: Mapping[str, nn.Module], optimizers: Mapping[str, Optimizer]
) -> dict[str, list[list[str]]]:
    """The names of each optimiser's weights, group by group, in the order in which its moments are numbered."""
    known = {
        id(weight): f"{module}/{name}"
        for module, part in modules.items()
        for name, weight in part.named_parameters()
    }
    return {
        name: [[known[id(weight)] for weight in group["params"]] for group in optimizer.param_groups]
        for name, optimizer in optimizers.items()
    }


def seal(beside: Path, facts: Mapping[str, Any]) -> Path:
    """Make a folder of tensors a checkpoint, with state.json, in one rename; remove all but the newest two."""
    sums = {path.name: sha256_file(path) for path in sorted(beside.glob("*.safetensors"))}
    sha256 = sums[TENSORS] if list(sums) == [TENSORS] else sums
    write_sealed(beside / STATE, {"step": facts["step"]} | dict(facts) | {"sha256": sha256})
    target = checkpoint_path(beside.parent, facts["step"])
    if target.exists():
        shutil.rmtree(target)
    beside.rename(target)
    for old in list_checkpoints(beside.parent)[:-KEEP]:
        shutil.rmtree(old)
    return target


def checkpoint_path(folder: Path, step: int) -> Path:
    """The folder of the checkpoint after `step` steps."""
    return folder / f"step-{step:09d}"


def list_checkpoints(folder: Path) -> list[Path]:
    """The complete checkpoints below `folder`, oldest first."""
    return sorted(folder.glob("step-*"))


def nothing_else(path: Path) -> bool:
    """No checkpoint is anywhere else."""
    return False


def newest_whole(folder: Path, again: Callable[[Path], bool] = nothing_else) -> Path | None:
    """The newest checkpoint with intact bytes, or None if there are none yet.

    A damaged one is skipped, with a message, and the one before it is used.

    Args:
        folder: of the run's checkpoints.
        again: puts an intact copy in the place of a damaged checkpoint, if there is one; returns whether.

    Raises:
        UserError: there are checkpoints, but all are damaged.
    """
    found = list_checkpoints(folder)
    for path in reversed(found):
        damage = _damage(path)
        if damage and again(path) and not _damage(path):
            say(f"the checkpoint {path.name} was damaged ({damage}): fetched again")
            return path
        if not damage:
            return path
        say(f"the checkpoint {path.name} is damaged ({damage}): continuing from the one before it")
    if found:
        raise UserError(
            f"all checkpoints in {folder} are damaged: forget them with `python -m workspace.runs drop {folder.parent.name}` "
            "and run again"
        )
    return None


def _damage(path: Path) -> str:
    """What is wrong with a checkpoint's bytes, or ""."""
    try:
        _check(path)
    except UserError as error:
        return str(error)
    return ""


def _check(path: Path) -> dict[str, Any]:
    """A checkpoint's state.json, checksums verified; UserError if a byte differs."""
    state = read_sealed(path / STATE)
    sha256 = state["sha256"]
    for name, expected in (sha256 if isinstance(sha256, dict) else {TENSORS: sha256}).items():
        if not (path / name).is_file() or sha256_file(path / name) != expected:
            raise UserError(f"{path / name} is missing or was changed")
    return state


def load_checkpoint(
    path: Path,
    modules: Mapping[str, nn.Module],
    optimizers: Mapping[str, Optimizer],
    scaler: GradScaler | None = None,
) -> int:
    """Restore modules and optimisers in place; returns the number of finished steps.

    Raises:
        UserError: its bytes have changed since it was written, or what is trained now has other weights.
    """
    state = _check(path)
    _require_weights(path, state, modules, optimizers)
    split = is_split(modules)
    if split or isinstance(state["sha256"], dict):
        tensors = read_parts(path, modules, optimizers, split)
    else:
        tensors = load_file(path / TENSORS)
    for name, module in modules.items():
        values = _under(tensors, f"module/{name}/")
        if isinstance(module, Best):
            module.take_over(values)
            continue
        _require_shapes(path, name, values, module.state_dict())
        module.load_state_dict(values)
    for name, optimizer in optimizers.items():
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in _under(tensors, f"optimizer/{name}/").items():
            index, _, field = key.partition("/")
            moments.setdefault(int(index), {})[field] = value
        # use fused kernels as the current device allows, not as the one that wrote the checkpoint did
        own = [{key: group[key] for key in KERNELS if key in group} for group in optimizer.param_groups]
        groups = [saved | mine for saved, mine in zip(state["optimizers"][name], own, strict=True)]
        optimizer.load_state_dict({"state": moments, "param_groups": groups})
        _lay_out(optimizer)
    if scaler is not None and "scaler" in state:
        scaler.load_state_dict(state["scaler"])
    step: int = state["step"]
    return step


def _require_weights(
    path: Path,
    state: Mapping[str, Any],
    modules: Mapping[str, nn.Module],
    optimizers: Mapping[str, Optimizer],
) -> None:
    """Check that the same weights learn as when the checkpoint was written, which an adopted run may have changed."""
    for name, groups in names_of(modules, optimizers).items():
        there = [len(group["params"]) for group in state["optimizers"].get(name, ())]
        if there != [len(group) for group in groups]:
            here = sum(map(len, groups))
            raise _other(path, f"{sum(there)} learning weights of the optimizer {name}, expected {here}")
        for before, now in zip(state.get("learning", {}).get(name, groups), groups, strict=True):
            for one, other in zip(before, now, strict=True):  # as many as now, and others
                if one != other:
                    raise _other(path, f"the learning weight {one} of the optimizer {name}, expected {other}")


def _require_shapes(path: Path, module: str, there: Mapping[str, Tensor], here: Mapping[str, Tensor]) -> None:
    shapes = [{name: list(tensor.shape) for name, tensor in state.items()} for state in (there, here)]
    for name in dict.fromkeys([*shapes[0], *shapes[1]]):
        found, expected = (state.get(name, "no such weight") for state in shapes)
        if found != expected:
            raise _other(path, f"{module}/{name}: {found}, expected {expected}")


def _other(path: Path, what: str) -> UserError:
    folder = path.parent
    return UserError(
        f"the checkpoint {path.name} has {what}: it was written under other settings; set them back, or forget it "
        f"with `python -m workspace.runs drop {folder.parent.name}` and run again"
    )


def _lay_out(optimizer: Optimizer) -> None:
    """Give each moment its weight's strides, because files hold contiguous tensors and fused kernels need equal strides."""
    for weight, values in optimizer.state.items():
        for field, value in values.items():
            if value.shape == weight.shape and local(value).stride() != local(weight).stride():
                values[field] = torch.empty_like(weight, dtype=value.dtype).copy_(value)


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
