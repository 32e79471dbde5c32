"""Tars made by workers anywhere, each from its part of the listing, which it finds in a file of the run's folder."""

import socket
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from shards.making.pictures import Encoding
from shards.making.plans import ShardPlan, read_part, write_part
from shards.making.reuse import earlier_sides
from shards.making.writing import write_facts
from workspace.errors import UserError

LOOKED_FOR = 100
"""Number of images of which the first that exists shows whether a node reaches the source."""


class Job(Protocol):
    """One tar to be made (a `cluster.shard_map.ShardJob`)."""

    @property
    def input(self) -> Path:
        """The file with its part of the listing."""


def write_parts(
    plans: Sequence[ShardPlan], encoding: Encoding, work: Path, earlier: Sequence[Path]
) -> list[Path]:
    """A file with the part of the listing of each tar, below `work`; tars that are lost are made again.

    Args:
        plans: the tars.
        encoding: how pictures are stored.
        work: the run's folder, absolute.
        earlier: folders of runs whose pictures may be taken.
    """
    sides = earlier_sides([plan.images for plan in plans], earlier, encoding)
    parts = [work / "parts" / plan.split / f"{plan.number:06d}.jsonl" for plan in plans]
    for part, plan, before in zip(parts, plans, sides, strict=True):
        if not plan.tar(work).is_file():
            plan.side(work).unlink(missing_ok=True)
        write_part(part, plan, before)
    return parts


def seen_of(plans: Sequence[ShardPlan]) -> str:
    """The path of an image that this machine can read; "" without one."""
    some = islice((image.data for plan in plans for image in plan.images), LOOKED_FOR)
    return next((data.path for data in some if not data.url and Path(data.path).is_file()), "")


def maker(encoding: Encoding, work: Path, source: str, seen: str) -> Callable[[Job], dict[str, Any]]:
    """Called once per worker; returns the function that makes a tar of a part of the listing.

    Args:
        encoding: how pictures are stored.
        work: the run's folder.
        source: `shard.source`, for errors.
        seen: an image that the driver can read, "" without one; a node that cannot would skip all images as missing.

    Raises:
        UserError: this node does not reach the source.
    """
    if seen and not Path(seen).is_file():
        raise UserError(
            f"node {socket.gethostname()} does not reach shard.source {source} ({seen}): it must be on storage that every "
            "node has mounted at the same path (NFS, a shared volume)"
        )

    def one(job: Job) -> dict[str, Any]:
        plan, earlier = read_part(job.input)
        return write_facts(plan, encoding, work, earlier)

    return one
