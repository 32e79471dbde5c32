"""Several sets of image shards as one: their samples are numbered on, and mixed by weight (`shards.mixture.schedule`)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shards.images.reading import ImageIndex, ImageSample, ImageShards
from shards.mixture.schedule import MixedOrder
from workspace.errors import UserError
from workspace.exact.order import DataOrder

MOST_SETS = 16
"""Sets of a mixture: each keeps up to 64 tars open, and a process may often open no more than 1,024 files."""


class MixedIndex:
    """The samples of several sets as one sequence, in the order of the sets."""

    def __init__(self, indices: Sequence[ImageIndex]) -> None:
        self.indices = tuple(indices)
        self.starts = np.cumsum([0, *map(len, self.indices)])

    def __len__(self) -> int:
        """Samples of all sets."""
        return int(self.starts[-1])

    def place(self, index: int) -> tuple[int, int]:
        """Which set a sample, 0 … len - 1, is of, and its number there."""
        number = int(np.searchsorted(self.starts, index, "right")) - 1
        return number, index - int(self.starts[number])

    def read(self, index: int) -> ImageSample:
        """The sample with this number, 0 … len - 1; UserError as `ImageIndex.read`."""
        number, own = self.place(index)
        return self.indices[number].read(own)


@dataclass(frozen=True)
class Mixture:
    """Sets of image shards and how often each is read.

    Attributes:
        sets: image shards; one is read as it always was.
        weights: one per set, > 0; their proportion counts.
    """

    sets: tuple[ImageShards, ...]
    weights: tuple[float, ...]

    @classmethod
    def chosen(cls, own: ImageShards, named: Sequence[tuple[str, Path, float]]) -> "Mixture":
        """The sets that are named, each by its setting, folder and weight; if none is, the workflow's own alone.

        Raises:
            UserError: a folder has no image shards, images have another size than the workflow's own, or two sets are the same.
        """
        if not named:
            return cls((own,), (1.0,))
        sets = tuple(_opened(setting, folder, own) for setting, folder, _ in named)
        seen: dict[str, str] = {}
        for (setting, folder, _), one in zip(named, sets, strict=True):
            twin = seen.setdefault(one.manifest.fingerprint, setting)
            if twin != setting:
                raise UserError(
                    f"{setting}: {folder} is the same set as {twin}; expected each once, with the sum of their weights"
                )
        return cls(sets, tuple(weight for _, _, weight in named))

    def fingerprints(self, own: ImageShards) -> dict[str, str]:
        """What a manifest says that something was made from besides the workflow's own set; nothing if that is all."""
        found = [one.manifest.fingerprint for one in self.sets]
        known = found == [own.manifest.fingerprint]
        return {} if known else {f"sources.{number}": one for number, one in enumerate(found)}

    def index(self) -> MixedIndex:
        """The training images, as one sequence."""
        return MixedIndex([one.index("train") for one in self.sets])

    def order(self, seed: int, group: int) -> DataOrder | MixedOrder:
        """Their order; one set has the order that it has alone, whatever its weight."""
        sizes = [one.facts.shards["train"] for one in self.sets]
        if len(sizes) == 1:
            return DataOrder(seed, sizes[0], group)
        return MixedOrder(seed, sizes, group, self.weights)


def _opened(setting: str, folder: Path, own: ImageShards) -> ImageShards:
    """The image shards that a setting names; UserError if there are none, or images of another size than the workflow's own."""
    image_size = own.facts.image_size
    try:
        found = ImageShards.open(folder, own.cache)
    except UserError as error:
        raise UserError(f"{setting}: {error}") from error
    if found.facts.image_size != image_size:
        raise UserError(
            f"{setting}: {folder} holds images of {found.facts.image_size} px, and mqvae.model.image_size is "
            f"{image_size}: make it again with shard.image_size {image_size}"
        )
    return found
