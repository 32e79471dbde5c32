"""Batches of real images with their labels, read from image shards."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from evaluation.features import Images
from evaluation.labels import UNKNOWN, Heads, expected_values
from shards.images import ImageSample, ImageShards
from shards.order import batch_indices

T = TypeVar("T")
GROUP = 16
"""Shards that are mixed with each other while the proxy is trained."""
KEPT_BYTES = 1 << 29


@dataclass(frozen=True)
class LabelledImages:
    """A batch of labelled images; -1 is an unknown label.

    Attributes:
        images: uint8 [B, H, W, 3].
        classes: int64 [B].
        expected: each head's label, int64 [B, H].
    """

    images: Images
    classes: NDArray[np.int64]
    expected: NDArray[np.int64]


def label_images(
    samples: Sequence[ImageSample], heads: Heads, classes: Sequence[str] | None
) -> LabelledImages:
    """Images of shards with their labels, as one batch."""
    expected = [expected_values(heads, classes, sample.cls, sample.attributes) for sample in samples]
    return LabelledImages(
        images=np.stack([sample.image for sample in samples]),
        classes=np.array([UNKNOWN if sample.cls is None else sample.cls for sample in samples], np.int64),
        expected=np.array(expected, np.int64).reshape(len(samples), len(heads)),
    )


def chosen_images(count: int, most: int | None, seed: int) -> NDArray[np.int64]:
    """Indices of the images to use, ascending: all `count`, or `most` of them drawn by seed."""
    if most is None or most >= count:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, most, replace=False))


def training_batches(
    shards: ImageShards, heads: Heads, batch: int, steps: int, seed: int
) -> Iterator[LabelledImages]:
    """Batches of the training split in an order that follows from the seed, one a step.

    Images are decoded once where they fit into `KEPT_BYTES` of memory.
    """
    index = shards.index("train")
    fits = len(index) * 4 * shards.facts.image_size**2 <= KEPT_BYTES
    read = lru_cache(maxsize=None if fits else 0)(index.read)
    for step in range(steps):
        asked = batch_indices(seed, step, batch, index.shard_sizes, GROUP)
        yield label_images([read(item) for _, item in asked], heads, shards.facts.classes)


def in_batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items in order; the last may be shorter."""
    batch: list[T] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
