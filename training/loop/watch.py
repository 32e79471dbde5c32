"""Checks that all numbers of a training are finite before any weight changes, without making the host wait for the device.

On a CPU a non-finite number stops the run at once, before the optimiser's step. On other devices the result of the check stays
on the device: from the first bad step on, optimisers and codebook do not change, and the host finds out, with the number of
that step, at its next look (before a row of the curves, a validation or a checkpoint). Meanwhile the EMA only moves towards
finite weights, and nobody reads it.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from training.loop.checkpoints import list_checkpoints
from workspace.errors import UserError

Admit = Callable[[Mapping[str, Tensor]], Tensor]
"""Name → scalar; returns whether all numbers so far are finite, as a bool scalar on their device."""


class Watch:
    """Keeps the numbers of the first step that has a non-finite one.

    Args:
        device: device of the numbers.
        folder: folder of the run's checkpoints, for the error.
    """

    def __init__(self, device: torch.device, folder: Path) -> None:
        self.folder = folder
        self.fine = torch.ones((), dtype=torch.bool, device=device)
        self._before = self.fine
        self._step = torch.zeros((), dtype=torch.int64, device=device)
        self._seen: dict[tuple[str, ...], Tensor] = {}

    def begin(self, step: int) -> None:
        """Begin step `step` (0-based), to which later numbers belong."""
        self._before = self.fine
        self._step = torch.where(self.fine, step, self._step)

    def admit(self, numbers: Mapping[str, Tensor]) -> Tensor:
        """Check numbers of the current step; see `Admit`.

        Raises:
            UserError: one is not finite and the device is a CPU.
        """
        names = tuple(numbers)
        values = torch.stack([value.detach().double() for value in numbers.values()])
        self._seen[names] = torch.where(self._before, values, self._seen.get(names, values))
        self.fine = self.fine & torch.isfinite(values).all()
        if self.fine.device.type == "cpu":
            self.look()
        return self.fine

    def look(self) -> None:
        """Wait for the device and raise if a number was not finite.

        Raises:
            UserError: a number was not finite; the error names the step, the number and the last good checkpoint.
        """
        if self.fine:
            return
        names = [name for group in self._seen for name in group]
        values = torch.cat(list(self._seen.values()))
        bad = int((~torch.isfinite(values)).nonzero()[0])
        kept = list_checkpoints(self.folder)
        raise UserError(
            f"step {int(self._step) + 1}: {names[bad]} is {float(values[bad])}; lower the learning rate, or clip gradients "
            f"(the last good checkpoint is {kept[-1] if kept else 'none yet'})"
        )


def unwatched(numbers: Mapping[str, Tensor]) -> Tensor:
    """An `Admit` that accepts everything, for steps outside the loop."""
    return torch.ones((), dtype=torch.bool, device=next(iter(numbers.values())).device)


def gradient_norm(*optimizers: Optimizer) -> Tensor:
    """The norm of all gradients of the optimisers' weights, a scalar; 0 without gradients."""
    groups = [group["params"] for optimizer in optimizers for group in optimizer.param_groups]
    gradients = [weight.grad for weights in groups for weight in weights if weight.grad is not None]
    return nn.utils.get_total_norm(gradients) if gradients else groups[0][0].new_zeros(())


def step_if(optimizer: Optimizer, fine: Tensor) -> None:
    """Step the optimiser only if `fine`, a bool scalar on the weights' device, is true, without making the host wait."""
    if fine.device.type == "cpu":  # on a CPU the watch has already raised
        optimizer.step()
    elif all(group.get("fused") for group in optimizer.param_groups):
        _fused_step_if(optimizer, fine)
    else:
        _restoring_step_if(optimizer, fine)


def _fused_step_if(optimizer: Optimizer, fine: Tensor) -> None:
    """Pass the flag of `torch.amp.GradScaler`, with which fused kernels change nothing."""
    optimizer.found_inf = (~fine).float()  # type: ignore[attr-defined]
    try:
        optimizer.step()
    finally:
        del optimizer.found_inf  # type: ignore[attr-defined]


@torch.no_grad()
def _restoring_step_if(optimizer: Optimizer, fine: Tensor) -> None:
    """Step, then restore the weights if `fine` is false. Moments are not restored, because the run stops after a bad step."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    kept = [weight.clone() for weight in weights]
    optimizer.step()
    for weight, before in zip(weights, kept, strict=True):
        weight.copy_(torch.where(fine, weight, before))


def floats(numbers: Mapping[str, Tensor | float]) -> dict[str, float]:
    """Numbers on the host, in one transfer."""
    there = {name: value for name, value in numbers.items() if isinstance(value, Tensor)}
    moved = torch.stack([value.detach().double() for value in there.values()]).tolist() if there else []
    here = dict(zip(there, moved, strict=True))
    return {name: here[name] if name in here else float(value) for name, value in numbers.items()}
