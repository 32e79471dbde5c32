"""The precision of both trainings: what weights are kept in, and what the forward pass runs in."""

from typing import Literal

import torch

Precision = Literal["fp32", "bf16", "float64"]
"""fp32; bf16 (fp32 weights under autocast); float64 (for tests and reference runs)."""


def weight_dtype(precision: Precision) -> torch.dtype:
    """Of weights, gradients and moments."""
    return torch.float64 if precision == "float64" else torch.float32


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """A context in which matrix products run in bf16, where the precision says so."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
