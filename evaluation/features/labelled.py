"""Batches of real images with their labels, read from image shards."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from evaluation.features.interface import Images
from evaluation.features.labels import UNKNOWN, Heads, expected_values
from shards.images import ImageSample, ImageShards
from workspace.exact.order import DataOrder
from workspace.exact.seeds import hashed_unit

T = TypeVar("T")
GROUP = 16
"""Number of shards whose samples are mixed when training the proxy."""
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
    """One batch of shard images with their labels."""
    expected = [expected_values(heads, classes, sample.cls, sample.attributes) for sample in samples]
    return as_batch([sample.image for sample in samples], [sample.cls for sample in samples], expected, heads)


def as_batch(
    images: Sequence[Images], classes: Sequence[int | None], expected: Sequence[Sequence[int]], heads: Heads
) -> LabelledImages:
    """One batch of images and labels; a class of None means unknown."""
    return LabelledImages(
        images=np.stack(images),
        classes=np.array([UNKNOWN if cls is None else cls for cls in classes], np.int64),
        expected=np.array(expected, np.int64).reshape(len(images), len(heads)),
    )


def chosen_images(count: int, most: int | None, seed: int) -> NDArray[np.int64]:
    """Indices of the images to use, ascending: all `count`, or a random `most` of them, chosen by seed."""
    if most is None or most >= count:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, most, replace=False))


def soften(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A 3 × 3 mean (edges repeated), applied twice: about as soft as a reconstruction. uint8 [H, W, 3] → the same."""
    soft = image.astype(np.float32)
    for _ in range(2):
        padded = np.pad(soft, ((1, 1), (1, 1), (0, 0)), mode="edge")
        rows = padded[:-2] + padded[1:-1] + padded[2:]
        soft = (rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]) / 9
    return np.rint(soft).astype(np.uint8)


def training_batches(
    shards: ImageShards, heads: Heads, batch: int, steps: int, seed: int, softened: float
) -> Iterator[LabelledImages]:
    """Batches of the training split, one per step, in an order that depends only on the seed.

    A share `softened` of the images, chosen by (seed, epoch, image), is softened, so that the classifier learns content
    instead of the sharpness of edges. Images are decoded only once if they fit into `KEPT_BYTES` of memory.
    """
    index = shards.index("train")
    fits = len(index) * 4 * shards.facts.image_size**2 <= KEPT_BYTES
    read = lru_cache(maxsize=None if fits else 0)(index.read)
    order = DataOrder(seed, index.shard_sizes, GROUP)
    for step in range(steps):
        asked = order.batch(step, batch)
        found = label_images([read(item) for _, item in asked], heads, shards.facts.classes)
        chosen = [hashed_unit(seed, epoch, item, "soften") < softened for epoch, item in asked]
        images = [soften(image) if soft else image for image, soft in zip(found.images, chosen, strict=True)]
        yield replace(found, images=np.stack(images))


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
