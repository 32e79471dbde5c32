"""Moving tensors from the host to a device without the host waiting."""

import torch
from torch import Tensor


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device: from the host to a GPU by way of pinned memory, as only from there a copy is asynchronous."""
    pinned = tensor.pin_memory() if device.type == "cuda" and tensor.device.type == "cpu" else tensor
    return pinned.to(device, non_blocking=True)
