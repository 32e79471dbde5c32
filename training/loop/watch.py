"""Checks that all numbers of a training are finite before any weight changes, without making the host wait for the device.

In a step with a non-finite number neither optimisers nor codebook move: the step is skipped. After `max_bad_steps` of them in a
row one more stops the run, on a CPU at once. On other devices the result of the check stays on the device: from that step on
nothing moves, and the host finds out at its next look (before a row of the curves, a validation or a checkpoint). The EMA moves
in every step, towards weights that are finite.
"""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from training.loop.checkpoints import list_checkpoints
from training.loop.parallel import local, whole
from workspace.errors import UserError

Admit = Callable[[Mapping[str, Tensor]], Tensor]
"""Name → scalar; returns whether all numbers so far are finite, as a bool scalar on their device."""


class Watch:
    """Finds the steps in which a number is not finite, and the one at which they are too many in a row.

    Args:
        device: where the numbers are.
        folder: where the run's checkpoints are, for the error.
        limit: bad steps in a row that are skipped; one more ends the run.
    """

    def __init__(self, device: torch.device, folder: Path, limit: int = 0) -> None:
        self.folder, self.limit = folder, limit
        self.fine = torch.ones((), dtype=torch.bool, device=device)
        self._over = ~self.fine
        self._row = torch.zeros((), dtype=torch.int64, device=device)
        self._skipped, self._step = self._row, self._row
        self._seen: dict[tuple[str, ...], Tensor] = {}

    def begin(self, step: int) -> None:
        """Begin step `step` (0-based): later numbers belong to it."""
        self._skipped = self._skipped + ~self.fine
        self._row = torch.where(self.fine, 0, self._row + 1)
        self._over = self._row > self.limit
        self.fine = ~self._over
        self._step = torch.where(self._over, self._step, step)
        # what an earlier step saw must not be named for this one
        self._seen = {
            names: torch.where(self._over, values, torch.zeros_like(values))
            for names, values in self._seen.items()
        }

    def admit(self, numbers: Mapping[str, Tensor]) -> Tensor:
        """Check numbers of the current step; see `Admit`.

        Raises:
            UserError: one is not finite, as in the `limit` steps before, and the device is a CPU.
        """
        names = tuple(numbers)
        values = torch.stack([value.detach().double() for value in numbers.values()])
        self._seen[names] = torch.where(self._over, self._seen.get(names, values), values)
        self.fine = self.fine & torch.isfinite(values).all()
        if self.fine.device.type == "cpu":
            self.look()
        return self.fine

    def look(self) -> int:
        """Wait for the device; returns how many steps were skipped so far.

        Raises:
            UserError: too many bad steps in a row; the last one, its number and the last good checkpoint are named.
        """
        if self.fine:
            return int(self._skipped)
        if not self._over and self._row < self.limit:
            return int(self._skipped) + 1
        names = [name for group in self._seen for name in group]
        values = torch.cat(list(self._seen.values()))
        bad = int((~torch.isfinite(values)).nonzero()[0])
        kept = list_checkpoints(self.folder)
        before = f", after {self.limit} skipped steps in a row" if self.limit else ""
        raise UserError(
            f"step {int(self._step) + 1}: {names[bad]} is {float(values[bad])}{before}; lower the learning rate, or clip "
            f"gradients (the last good checkpoint is {kept[-1] if kept else 'none yet'})"
        )


def finite(numbers: Mapping[str, Tensor]) -> Tensor:
    """An `Admit` of these numbers alone, whatever else the step saw."""
    return torch.isfinite(torch.stack([value.detach().double() for value in numbers.values()])).all()


def unwatched(numbers: Mapping[str, Tensor]) -> Tensor:
    """An `Admit` that accepts everything, for steps outside the loop."""
    return torch.ones((), dtype=torch.bool, device=next(iter(numbers.values())).device)


def gradient_norm(*optimizers: Optimizer) -> Tensor:
    """The norm of all gradients of the optimisers' weights, a scalar; 0 without gradients."""
    weights = weights_of(*optimizers)
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    return whole(nn.utils.get_total_norm(gradients)) if gradients else local(weights[0]).new_zeros(())


def weights_of(*optimizers: Optimizer) -> list[Tensor]:
    """All weights of the optimisers, of which at least one learns; where parts are frozen, groups may be empty."""
    return [
        weight for optimizer in optimizers for group in optimizer.param_groups for weight in group["params"]
    ]


def unscale(scaler: GradScaler, optimizers: Collection[Optimizer]) -> dict[str, Tensor]:
    """Divide gradients, summed over workers, by the loss scale; returns it for the curves, {} if unused."""
    if not scaler.is_enabled():
        return {}
    for optimizer in optimizers:
        if has_gradients(optimizer):
            scaler.unscale_(optimizer)
    return {"loss_scale": scale_of(scaler, local(weights_of(*optimizers)[0]))}


def has_gradients(*optimizers: Optimizer) -> bool:
    """Whether any weight has a gradient; in a step in which all that learns is bypassed or frozen, none has."""
    return any(weight.grad is not None for weight in weights_of(*optimizers))


def update_scale(scaler: GradScaler, optimizers: Collection[Optimizer]) -> None:
    """Raise or lower the loss scale after a step; without any gradient there is nothing to judge it by."""
    if has_gradients(*optimizers):
        scaler.update()


def scale_of(scaler: GradScaler, like: Tensor) -> Tensor:
    """The loss scale, a scalar on the device of `like`, which has its dtype."""
    return scaler.scale(torch.ones((), dtype=like.dtype, device=like.device))


def step_if(optimizer: Optimizer, fine: Tensor) -> None:
    """Take the optimiser's step only if `fine`, a bool scalar on the weights' device, is true; the host does not wait for it."""
    if fine.device.type == "cpu":
        if fine:
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
    """Step, then restore weights and moments if `fine` is false; moments made in this step become 0, as they begin.

    A count of steps on the host is not restored, because the host would have to wait.
    """
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    kept = [weight.clone() for weight in weights]
    moments = {
        (weight, name): value.clone()
        for weight, values in optimizer.state.items()
        for name, value in values.items()
    }
    optimizer.step()
    for weight, before in zip(weights, kept, strict=True):
        weight.copy_(torch.where(fine, weight, before))
    for weight, values in optimizer.state.items():
        for name, value in values.items():
            if value.device == fine.device:
                value.copy_(torch.where(fine, value, moments.get((weight, name), torch.zeros_like(value))))


def floats(numbers: Mapping[str, Tensor | float]) -> dict[str, float]:
    """Numbers on the host, in one transfer."""
    there = {name: value for name, value in numbers.items() if isinstance(value, Tensor)}
    moved = torch.stack([value.detach().double() for value in there.values()]).tolist() if there else []
    here = dict(zip(there, moved, strict=True))
    return {name: here[name] if name in here else float(value) for name, value in numbers.items()}
