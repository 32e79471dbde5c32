"""PyTorch's optimisers, bit for bit, without the import of its compiler.

Some of their methods are marked as not to be compiled. The first call of a marked method imports `torch._dynamo` (900 modules and
0.9 CPU seconds, with which every training would begin) to make the mark. Here those methods are what the marks would call.
"""

from inspect import unwrap

import torch
from torch.optim import Optimizer


class Unmarked(Optimizer):
    """An optimiser whose bookkeeping does not import the compiler."""

    add_param_group = unwrap(Optimizer.add_param_group)
    load_state_dict = unwrap(Optimizer.load_state_dict)
    state_dict = unwrap(Optimizer.state_dict)
    zero_grad = unwrap(Optimizer.zero_grad)


class Adam(Unmarked, torch.optim.Adam):
    """`torch.optim.Adam`; a step is not differentiable."""

    step = torch.no_grad()(unwrap(torch.optim.Adam.step))


class AdamW(Adam, torch.optim.AdamW):
    """`torch.optim.AdamW`, the same."""
