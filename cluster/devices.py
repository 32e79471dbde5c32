"""A worker's device and its number of threads."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch

from workspace.errors import UserError
from workspace.progress import say


def device_of(name: str) -> torch.device:
    """The device for `compute.device`; auto uses a GPU if torch can.

    Raises:
        UserError: cuda is requested, but torch cannot use a GPU.
    """
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    why = gpu_trouble()
    if not why:
        return torch.device("cuda")
    if name == "cuda":
        raise UserError(
            f"compute.device is cuda, but torch cannot use a GPU here ({why}); set it to cpu, or auto"
        )
    say(f"torch cannot use the GPU here ({why}): computing on the CPU")
    return torch.device("cpu")


@cache
def gpu_trouble() -> str:
    """Why torch cannot compute on a GPU in this process, or "". Runs a kernel, because an outdated driver fails only then."""
    if torch.version.cuda is None and torch.version.hip is None:
        return f"torch {torch.__version__} is built without CUDA"
    try:
        torch.ones(1, device="cuda").add_(1).item()
    except (RuntimeError, AssertionError) as error:
        return " ".join(str(error).split())[:200]
    return ""


@contextmanager
def reproducible(wanted: bool) -> Iterator[None]:
    """Use torch's deterministic algorithms within the block; torch warns where it has none.

    Otherwise the sums of `index_add_` and the gradients of gathered rows depend on the order of a GPU's threads.
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
    """Free bytes on a GPU, including memory that this process's allocator holds unused; None on a CPU."""
    if device.type != "cuda":
        return None
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0]) + unused


def use_threads(count: int) -> None:
    """Compute with this many threads (Ray would set one per requested CPU), and reuse freed memory."""
    torch.set_num_threads(count)
    reuse_memory()


MMAP_THRESHOLD, TRIM_THRESHOLD = (-3, 32 << 20), (-1, 128 << 20)
"""Parameters of glibc's `mallopt`: number, bytes."""


@cache
def reuse_memory() -> None:
    """Keep freed blocks of up to 32 MiB for the next tensors, if the C library is glibc.

    By default a large freed block returns to the kernel, and the next one is allocated page by page and zeroed: 2,500 page
    faults per step of the demo's MQ-VAE, a tenth of its processor time. Results do not change.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        for number, size in (MMAP_THRESHOLD, TRIM_THRESHOLD):
            set_option(number, size)
