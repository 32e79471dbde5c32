"""Moving tensors from the host to a device without the host waiting."""

import torch
from torch import Tensor


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a host tensor to a device; through pinned memory on a GPU, since only then is the copy asynchronous."""
    pinned = tensor.pin_memory() if device.type == "cuda" else tensor
    return pinned.to(device, non_blocking=True)
