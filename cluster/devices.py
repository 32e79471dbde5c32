"""Which device a worker computes on, and with how many threads."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from workspace.errors import UserError
from workspace.settings import Compute


def device_of(name: str) -> torch.device:
    """`compute.device` → a device: auto takes a GPU where there is one.

    Raises:
        UserError: cuda is asked for, and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "compute.device is cuda, and torch sees no GPU here; set compute.device: cpu, or auto"
        )
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


@contextmanager
def reproducible(wanted: bool) -> Iterator[None]:
    """Within the block torch takes algorithms that give the same bits each time; it warns where it has none.

    On a GPU sums of `index_add_` and the gradients of gathered rows else depend on which thread comes first.
    """
    if not wanted:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it at its first call
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.deterministic
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.deterministic = True
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.deterministic = before[1]


def free_bytes(device: torch.device) -> int | None:
    """Bytes that are free on a GPU, what this process holds and does not use included; None on a CPU."""
    if device.type != "cuda":
        return None
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0]) + unused


def threads_of(compute: Compute) -> int:
    """Torch threads of one worker: as set, or the machine's cores shared out over the workers."""
    return compute.threads or max(1, (os.cpu_count() or 1) // max(1, compute.workers))


def use_threads(count: int) -> None:
    """Compute with this many threads (Ray would set one a CPU asked for)."""
    torch.set_num_threads(count)
