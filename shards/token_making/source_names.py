"""The source of each image in image shards; users join tokens with their own tables by this name."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from shards.images import REMAKE, ImageSample, ImageShards, index_rows
from workspace.errors import UserError


@dataclass
class SourceNames:
    """The sources of image shards, one tar at a time, without loading a whole index.

    Attributes:
        shards: the artifact.
        starts: split → byte offset in its index of each tar's first line, filled when first needed.
    """

    shards: ImageShards
    starts: dict[str, list[int]] = field(default_factory=dict)

    def of(self, tar: Path) -> dict[str, str]:
        """Key → path relative to `shard.source`, for each sample of one tar."""
        split, number = tar.parent.name, int(tar.stem)
        index, sizes = self.shards.folder / f"{split}.index.jsonl", self.shards.facts.shards[split]
        if split not in self.starts:
            self.starts[split] = _starts(index, sizes)
        rows = index_rows(index, self.starts[split][number])
        return {row.key: row.source for row in islice(rows, sizes[number])}


def named(samples: Sequence[ImageSample], sources: dict[str, str]) -> tuple[str, ...]:
    """The source of each sample; UserError if the index lacks one."""
    unknown = next((sample.key for sample in samples if sample.key not in sources), None)
    if unknown is not None:
        raise UserError(f"the image {unknown} is not in the index of its shards: {REMAKE}")
    return tuple(sources[sample.key] for sample in samples)


def _starts(index: Path, sizes: Sequence[int]) -> list[int]:
    if not index.is_file():
        raise UserError(f"{index} does not exist: {REMAKE}")
    starts = []
    with index.open("rb") as file:
        for size in sizes:
            starts.append(file.tell())
            for _ in islice(file, size):
                pass
    return starts
