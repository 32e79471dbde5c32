"""Sums over the workers of a group; recognises a lost peer by the exceptions of torch.distributed."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
import torch.distributed
from torch import Tensor
from torch.optim import Optimizer

from workspace.errors import PeerLostError


@contextmanager
def _peers() -> Iterator[None]:
    """Distinguish a lost peer from this worker's own error.

    Raises:
        PeerLostError: a collective failed for any reason except lack of memory.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:  # gloo raises no class of its own
        raise PeerLostError(str(error)) from error


def reducer(size: int) -> Callable[[Tensor], Tensor]:
    """A function that sums a tensor over `size` workers, in place."""

    def reduce(tensor: Tensor) -> Tensor:
        if size > 1:
            with _peers():
                torch.distributed.all_reduce(tensor)
        return tensor

    return reduce


def from_first(number: int, size: int, device: torch.device) -> int:
    """Worker 0's value, on all workers."""
    told = torch.tensor(number, device=device)
    if size > 1:
        with _peers():
            torch.distributed.broadcast(told, src=0)
    return int(told)


def sum_gradients(optimizers: Mapping[str, Optimizer], size: int) -> None:
    """Sum gradients over workers in one flat all-reduce per optimiser.

    They are copied back into their own tensors, because a view of the flat one would be contiguous even for a channels_last
    weight, and fused optimisers need equal strides.
    """
    if size == 1:
        return
    reduce = reducer(size)
    for optimizer in optimizers.values():
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        if not gradients:
            continue
        flat = reduce(torch.cat([gradient.reshape(-1) for gradient in gradients]))
        parts = flat.split([gradient.numel() for gradient in gradients])
        views = [part.view(gradient.shape) for part, gradient in zip(parts, gradients, strict=True)]
        torch._foreach_copy_(gradients, views)
