"""Moving tensors from the host to a device without the host waiting."""

import torch
from torch import Tensor


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on a device: by way of pinned memory on a GPU, as only from there a copy is asynchronous."""
    pinned = tensor.pin_memory() if device.type == "cuda" else tensor
    return pinned.to(device, non_blocking=True)
