"""Sums over the workers of a group; recognises a lost peer by the exceptions of torch.distributed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.distributed
from torch import Tensor

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
        raise PeerLostError.of(error) from error


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
