"""Precision and memory format: what weights are kept in, what a forward pass runs in, and how optimisers step."""

from typing import Any, Literal

import torch

Precision = Literal["fp32", "tf32", "bf16", "float64"]
"""fp32; tf32 (fp32 whose products a GPU may round to TF32); bf16 (fp32 weights under autocast); float64 (reference runs)."""
ChannelsLast = Literal["auto", True, False]
"""Memory format of convolutions; auto takes the faster one of the device."""


def weight_dtype(precision: Precision) -> torch.dtype:
    """Of weights, gradients and moments."""
    return torch.float64 if precision == "float64" else torch.float32


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """A context in which matrix products run in bf16, where the precision says so."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def allow_tf32(convolutions: bool, products: bool) -> None:
    """Whether a GPU may round the factors of fp32 convolutions and matrix products to 10 bits, for this process.

    torch's own default allows it for convolutions and not for products.
    """
    torch.backends.cudnn.allow_tf32 = convolutions
    torch.backends.cuda.matmul.allow_tf32 = products


def memory_format(channels_last: ChannelsLast, compiled: bool, device: torch.device) -> torch.memory_format:
    """Of convolutions: on a CPU channels last; on a GPU only compiled, as torch's own GroupNorm copies its input there."""
    if channels_last == "auto":
        channels_last = compiled or device.type != "cuda"
    return torch.channels_last if channels_last else torch.contiguous_format


def kernels(device: torch.device) -> dict[str, Any]:
    """How an optimiser of torch steps on a device: in one fused kernel on a GPU; on a CPU 1 % would be to win."""
    return {"fused": True} if device.type == "cuda" else {"foreach": True}
