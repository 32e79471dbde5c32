"""The source of each image in image shards; users join tokens with their own tables by this name."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from shards.images import REMAKE, ImageIndex, ImageSample, ImageShards
from workspace.errors import UserError


@dataclass
class SourceNames:
    """The sources of image shards, one tar at a time, without loading a whole index.

    Attributes:
        shards: the artifact.
        indices: split → its index, opened when first needed.
    """

    shards: ImageShards
    indices: dict[str, ImageIndex] = field(default_factory=dict)

    def of(self, tar: Path) -> dict[str, str]:
        """Key → path relative to `shard.source`, for each sample of one tar."""
        split = tar.parent.name
        if split not in self.indices:
            self.indices[split] = self.shards.index(split)
        return {row.key: row.source for row in self.indices[split].table.rows_of(int(tar.stem))}


def named(samples: Sequence[ImageSample], sources: dict[str, str]) -> tuple[str, ...]:
    """The source of each sample; UserError if the index lacks one."""
    unknown = next((sample.key for sample in samples if sample.key not in sources), None)
    if unknown is not None:
        raise UserError(f"the image {unknown} is not in the index of its shards: {REMAKE}")
    return tuple(sources[sample.key] for sample in samples)
