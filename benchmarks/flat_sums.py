"""The earlier way to sum gradients, for comparison: one flat all-reduce per optimiser after the backward pass."""

from collections.abc import Mapping
from typing import Any

import torch
from torch.optim import Optimizer

from training.loop.group import reducer


def flat(training_module: Any, size: int) -> Any:
    """The same module, whose gradients are summed after the backward pass of a step, in one flat all-reduce per optimiser."""
    finish = training_module.finish_step

    def finish_step(*given: Any) -> Any:
        sum_gradients(training_module.optimizers, size)
        return finish(*given)

    training_module.connect, training_module.finish_step = lambda size: None, finish_step
    return training_module


def sum_gradients(optimizers: Mapping[str, Optimizer], size: int) -> None:
    """Sum gradients over `size` workers; they are copied back into the tensors that they came from."""
    reduce = reducer(size)
    for optimizer in optimizers.values():
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        if gradients:
            whole = reduce(torch.cat([gradient.reshape(-1) for gradient in gradients]))
            parts = whole.split([gradient.numel() for gradient in gradients])
            views = [part.view(gradient.shape) for part, gradient in zip(parts, gradients, strict=True)]
            torch._foreach_copy_(gradients, views)
