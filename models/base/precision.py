"""Precision and memory format: dtype of weights, precision of forward passes, kernels of optimisers."""

from collections.abc import Mapping
from typing import Any, Literal

import torch

Precision = Literal["fp32", "tf32", "bf16", "fp16", "float64"]
"""fp32; tf32 (fp32 whose products a GPU may round to TF32); bf16, and fp16 for GPUs without it (fp32 weights under autocast);
float64 (reference runs)."""
HALVES: Mapping[Precision, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}
ChannelsLast = Literal["auto", True, False]
"""Memory format of convolutions; auto uses the faster one on the device."""


def weight_dtype(precision: Precision) -> torch.dtype:
    """The dtype of weights, gradients and optimiser moments."""
    return torch.float64 if precision == "float64" else torch.float32


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """Autocast to bf16 or fp16 if that is the precision; otherwise a context that changes nothing."""
    half = HALVES.get(precision, torch.bfloat16)
    return torch.autocast(device.type, half, enabled=precision in HALVES)


def allow_tf32(convolutions: bool, products: bool) -> None:
    """Set whether a GPU may round the factors of fp32 convolutions and matrix products to 10 bits, for this process.

    torch allows it by default for convolutions but not for products.
    """
    torch.backends.cudnn.allow_tf32 = convolutions
    torch.backends.cuda.matmul.allow_tf32 = products


def memory_format(channels_last: ChannelsLast, compiled: bool, device: torch.device) -> torch.memory_format:
    """Memory format of convolutions: channels last on a CPU; on a GPU only if compiled (eager GroupNorm copies its input)."""
    if channels_last == "auto":
        channels_last = compiled or device.type != "cuda"
    return torch.channels_last if channels_last else torch.contiguous_format


def kernels(device: torch.device) -> dict[str, Any]:
    """Keyword arguments of torch's optimisers: fused kernels on a GPU, but not on a CPU, where they gained only 1 %."""
    return {"fused": True} if device.type == "cuda" else {"foreach": True}
