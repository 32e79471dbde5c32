"""Times and memory of work on a device."""

import statistics
import time
from collections.abc import Callable

import torch

GIGA = 1e9


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def median_seconds(work: Callable[[], object], device: torch.device, times: int, warm: int = 2) -> float:
    """Seconds of some calls, each until the device is done; warm-up calls are not counted."""
    taken = []
    for number in range(warm + times):
        wait(device)
        began = time.perf_counter()
        work()
        wait(device)
        if number >= warm:
            taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def forget_peak(device: torch.device) -> None:
    """Count peak memory from here on."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def peak_gigabytes(device: torch.device) -> float | None:
    """The most memory that tensors took at once; None on a CPU."""
    return torch.cuda.max_memory_allocated(device) / GIGA if device.type == "cuda" else None
