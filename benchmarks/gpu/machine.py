"""Phase a: what the machine is and can do: versions, copy bandwidth, matrix rates, the cost of a launch."""

import os
import platform
import shutil
import subprocess
import sys
from importlib.metadata import distributions
from typing import Any

import torch

from benchmarks.gpu.notes import commit
from benchmarks.gpu.phase import Item, Place
from benchmarks.gpu.timing import GIGA, median_seconds
from models.base.precision import allow_tf32

ASKED = "name,driver_version,memory.total,clocks.sm,clocks.mem,power.limit,temperature.gpu,persistence_mode"
LAUNCHES = 1000


def items(place: Place) -> list[Item]:
    """In order of what the others need."""
    return [
        Item("versions", versions, 15),
        Item("copy", copy, 15),
        Item("matrix", matrix, 30),
        Item("launches", launches, 15),
    ]


def versions(place: Place) -> dict[str, Any]:
    """Versions of the code, Python, torch and its libraries; the GPU as reported by its driver."""
    packages = {found.metadata["Name"]: found.version for found in distributions()}
    told: dict[str, Any] = {
        "commit": commit(),
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "packages": dict(sorted(packages.items())),
    }
    if place.device == "cuda":
        told |= {
            "gpu": torch.cuda.get_device_name(),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }
        seen = torch.cuda.get_device_properties(0)
        told |= {"multiprocessors": seen.multi_processor_count, "memory_gigabytes": seen.total_memory / GIGA}
    if place.device == "cuda" and shutil.which("nvidia-smi"):
        command = ["nvidia-smi", f"--query-gpu={ASKED}", "--format=csv,noheader"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
        told["nvidia_smi"] = dict(zip(ASKED.split(","), done.stdout.strip().split(", "), strict=False))
    return told


def copy(place: Place) -> dict[str, Any]:
    """Bytes read and written a second by a copy far larger than any cache."""
    device = torch.device(place.device)
    source = torch.rand(2**20 if place.tiny else 2**29, device=device)
    target = torch.empty_like(source)
    taken = median_seconds(lambda: target.copy_(source), device, 10)
    return {"gigabytes_per_second": 2 * source.nbytes / taken / GIGA}


def matrix(place: Place) -> dict[str, Any]:
    """Operations a second of a large product of random matrices, in each arithmetic."""
    device, size = torch.device(place.device), 256 if place.tiny else 8192
    found: dict[str, Any] = {"size": size}
    for name, dtype in (("bf16", torch.bfloat16), ("tf32", torch.float32), ("fp32", torch.float32)):
        allow_tf32(convolutions=False, products=name == "tf32")
        a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
        taken = median_seconds(lambda a=a, b=b: a @ b, device, 5)  # type: ignore[misc]
        found[f"{name}_teraflops"] = 2 * size**3 / taken / 1e12
    return found


def launches(place: Place) -> dict[str, Any]:
    """Microseconds of a small kernel: launched by itself, and (on a GPU) in a graph of kernels that wait for each other."""
    device = torch.device(place.device)
    x = torch.zeros(1024, device=device)

    def many() -> None:
        for _ in range(LAUNCHES):
            x.add_(1)

    found = {"launched_microseconds": median_seconds(many, device, 3) / LAUNCHES * 1e6}
    if place.device == "cuda":
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            many()
        found["replayed_microseconds"] = median_seconds(graph.replay, device, 3) / LAUNCHES * 1e6
    return found
