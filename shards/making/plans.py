"""The listing in parts: which images each tar will hold, and the file in which a worker anywhere finds its part."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shards.images import SPLITS, shard_path
from shards.layouts.image_table import Chosen
from shards.layouts.listed import Images, Location, Source, SourceImage
from shards.making.splits import with_splits
from workspace.errors import UserError
from workspace.exact.manifest import atomic_path
from workspace.exact.seeds import hashed_unit


@dataclass(frozen=True)
class ShardPlan:
    """One tar to be made.

    Attributes:
        split: train or val.
        number: the tar's number in its split.
        first: its first image's number in the split, for keys.
        images: its images, in order.
    """

    split: str
    number: int
    first: int
    images: Sequence[SourceImage]

    def side(self, work: Path) -> Path:
        """The file that says what the tar holds, written after it."""
        return work / f"{self.split}-{self.number:06d}.json"

    def tar(self, work: Path) -> Path:
        """The tar."""
        return shard_path(work, self.split, self.number)


def plan_shards(images: Images, val_fraction: float, seed: int, size: int) -> list[ShardPlan]:
    """Order images by hash of the name and cut them into shards of `size`; `with_splits` decides missing splits.

    What it holds is 16 bytes per image.

    Raises:
        UserError: a split would be empty.
    """
    splits = images.codes.splits
    if (splits < 0).any():
        images = with_splits(Source(images), val_fraction, seed).images
        splits = images.codes.splits
    rank = np.fromiter((hashed_unit(seed, "order", image.name) for image in images), np.float64, len(images))
    plans = []
    for code, split in enumerate(SPLITS):
        members = np.flatnonzero(splits == code)
        members = members[np.argsort(rank[members], kind="stable")]
        if not len(members):
            raise UserError(_empty(split, len(images), val_fraction))
        starts = range(0, len(members), size)
        plans += [
            ShardPlan(split, number, first, Chosen(images, members[first : first + size]))
            for number, first in enumerate(starts)
        ]
    return plans


def _empty(split: str, images: int, val_fraction: float) -> str:
    """The error for an empty split."""
    mend = "two images or more are needed" if val_fraction else "set shard.val_fraction above 0"
    if split == "train" and images > 1:
        mend = "say what is for training, shard.roles: {val: train}"
    elif val_fraction and images > 1:
        mend = (
            "each class has one image, which is for training; two of a class are needed, or a validation set"
        )
    return f"the split {split} of shard.source would be empty: of {images} images, shard.val_fraction is {val_fraction}; {mend}"


def write_part(path: Path, plan: ShardPlan, earlier: Sequence[Path]) -> None:
    """A plan as a file of JSON lines: the tar and the side files of earlier runs, then one image per line."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="ascii") as file:
        head = {
            "split": plan.split,
            "number": plan.number,
            "first": plan.first,
            "earlier": list(map(str, earlier)),
        }
        file.write(f"{json.dumps(head)}\n")
        for image in plan.images:
            facts = (image.name, _place(image.data), image.split, image.cls, image.captions)
            row = (*facts, None if image.attributes is None else dict(image.attributes), _place(image.mask))
            file.write(f"{json.dumps(row)}\n")


def read_part(path: Path) -> tuple[ShardPlan, list[Path]]:
    """The plan in a file of `write_part`, and the side files of earlier runs."""
    with path.open(encoding="ascii") as file:
        head = json.loads(next(file))
        images = tuple(_image(*json.loads(line)) for line in file)
    return ShardPlan(head["split"], head["number"], head["first"], images), list(map(Path, head["earlier"]))


def _place(location: Location | None) -> tuple[Any, ...] | None:
    return None if location is None else astuple(location)


def _image(
    name: str,
    data: Sequence[Any],
    split: str | None,
    cls: int | None,
    captions: Sequence[str],
    attributes: Mapping[str, str] | None,
    mask: Sequence[Any] | None,
) -> SourceImage:
    place = None if mask is None else Location(*mask)
    return SourceImage(name, Location(*data), split, cls, tuple(captions), attributes, place)
