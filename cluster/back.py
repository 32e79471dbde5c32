"""Growing back: while a group trains with fewer workers than asked for, the driver looks for nodes that came back.

Where there is room for more, it writes a file into the run's folder. The group ends itself after its next checkpoint (nothing is
lost), and the next group has as many workers as there is room for then.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.session import Granted, check_nodes, require_room
from cluster.watching import in_background
from workspace.errors import UserError
from workspace.progress import say
from workspace.runs import REGROUP

LOOK_SECONDS = 15.0
"""Between two looks at the cluster's list of nodes, which costs it nothing."""


@contextmanager
def watched_for_room(granted: Granted, size: int, folder: Path) -> Iterator[None]:
    """Within the block, ask the group of `size` workers to end at a checkpoint as soon as there is room for more."""
    with in_background(lambda over: _watch(granted, size, folder, over)):
        yield


def _watch(granted: Granted, size: int, folder: Path, over: threading.Event) -> None:
    refused = 0
    while not over.wait(LOOK_SECONDS):
        listed = listed_room(granted.gpu)
        if listed <= max(size, refused):
            refused = min(refused, listed)
            continue
        try:
            room = usable_room(granted, folder)
        except UserError as error:
            say(f"a node came back and cannot be used yet: {error}")
            refused = listed
            continue
        if room > size:
            (folder / "work" / REGROUP).touch()
            say(
                f"there is room for {room} of {granted.compute.workers} workers again: they start after the next checkpoint"
            )
            return


def listed_room(gpu: bool) -> int:
    """CPUs, or GPUs, of the nodes that the cluster lists as alive."""
    import ray

    kind = "GPU" if gpu else "CPU"
    return sum(int(node["Resources"].get(kind, 0)) for node in ray.nodes() if node["Alive"])


def usable_room(granted: Granted, folder: Path) -> int:
    """How many workers there is room for on nodes that answer and fit.

    Raises:
        UserError: a node does not reach the run's folder, or has other versions.
    """
    check_nodes(folder)
    return require_room(granted.compute, granted.gpu)
