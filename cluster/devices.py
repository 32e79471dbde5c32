"""Which device a worker computes on, and with how many threads."""

import os

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
