"""This machine's limits: bytes read and multiply-adds per second, and a decoding step's need of both."""

import time
from dataclasses import dataclass

import torch

from models.stackformer import StackformerConfig

GIGA = 1e9


@dataclass(frozen=True)
class Machine:
    """Measured rates.

    Attributes:
        bandwidth: bytes per second, read (CPU) or copied (GPU: read + written).
        flops: floating-point operations a second of a large matrix product.
    """

    bandwidth: float
    flops: float

    def text(self) -> str:
        """In words."""
        return f"{self.bandwidth / GIGA:,.1f} GB/s, {self.flops / GIGA:,.0f} GFLOP/s measured"


def _best(work: object, device: torch.device, times: int) -> float:
    """Seconds of the fastest of some calls."""
    assert callable(work)
    taken = []
    for _ in range(times + 1):
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - began)
    return min(taken[1:])


def measure_machine(device: torch.device, dtype: torch.dtype, size: int) -> Machine:
    """Read 256 MiB (CPU: a sum; GPU: copy 2 GiB), and multiply two matrices of `size`."""
    count = 2**26 if device.type == "cpu" else 2**29
    memory = torch.ones(count, device=device)
    target = torch.empty_like(memory) if device.type == "cuda" else None
    move = memory.sum if target is None else lambda: target.copy_(memory)
    moved = memory.nbytes * (1 if target is None else 2)
    bandwidth = moved / _best(move, device, 5)
    # Random numbers: a GPU multiplies constants up to a tenth faster than data.
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    return Machine(bandwidth, 2 * size**3 / _best(lambda: a @ b, device, 3))


def decoding_weights(config: StackformerConfig) -> int:
    """Weights that a step of both transformers reads: linear maps and heads (of the embeddings it reads a row)."""
    network = config.network
    layers = network.code_layers + network.position_layers
    return 12 * network.width**2 * layers + network.width * (config.num_codes + config.num_positions)


def decoding_floor(config: StackformerConfig, batch: int, size: int, machine: Machine) -> float:
    """Seconds of a whole run: per step the slower of bytes (weights once, keys and values so far) and arithmetic.

    Args:
        config: of the model.
        batch: B.
        size: bytes a number.
        machine: its rates.
    """
    network, weights = config.network, decoding_weights(config)
    layers = network.code_layers + network.position_layers
    total = 0.0
    for step in range(config.num_kept):
        kept = 2 * layers * network.width * (step + config.condition_length) * batch
        work = 2 * batch * weights + 2 * kept
        total += max((weights + kept) * size / machine.bandwidth, work / machine.flops)
    return total
