"""Distinguishes a lost worker, which is worth another try, from an error, which would only occur again."""

import torch.distributed

from workspace.errors import PeerLostError

LOST = (PeerLostError, torch.distributed.DistError)
"""Raised by a worker when a peer, a node or the network between them is gone."""


def is_loss(error: BaseException) -> bool:
    """Whether a worker, its node or a connection is gone: True for everything that Ray itself raises."""
    return isinstance(error, LOST) or (type(error).__module__.startswith("ray.") and not is_relayed(error))


def is_relayed(error: BaseException) -> bool:
    """Whether it is Ray's wrapper around an error from a worker's code, available as its `cause`.

    Ray creates a class for each, derived from both RayTaskError and the cause's type.
    """
    return any(base.__name__ == "RayTaskError" for base in type(error).__mro__)
