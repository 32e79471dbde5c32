"""Where a lost worker differs from an error: the first is worth another try, the second would only be raised again."""

import torch.distributed

from workspace.errors import PeerLostError

LOST = (PeerLostError, torch.distributed.DistError)
"""What a worker raises when a peer, a node or the network between them is gone."""


def is_loss(error: BaseException) -> bool:
    """Whether a worker, its node or a connection is gone; all that Ray raises by itself says so."""
    return isinstance(error, LOST) or (type(error).__module__.startswith("ray.") and not is_relayed(error))


def is_relayed(error: BaseException) -> bool:
    """Whether it is Ray's envelope around what a worker's own code raised, which is its `cause`.

    Ray makes a class for each, which is both a RayTaskError and of the cause's own type.
    """
    return any(base.__name__ == "RayTaskError" for base in type(error).__mro__)


def first_line(error: BaseException) -> str:
    """An error in one line."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
