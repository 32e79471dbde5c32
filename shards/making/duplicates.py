"""Images with the same bytes: counted, named if they are in both splits, and left out if asked.

A file's length and the CRC-32 of its last bytes distinguish nearly all files at no cost; files that agree in both are read
again and compared by SHA-256.
"""

import hashlib
import os
import zlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, TypeVar

from shards.layouts.listed import SourceImage, shown_name

Duplicates = Literal["keep", "drop"]
Mark = tuple[int, int]
Item = TypeVar("Item")
TAIL = 4096
"""Number of bytes at a file's end whose CRC-32 is taken."""
READERS = 8
"""Number of threads that read files again; they mostly wait for the disk."""


@dataclass(frozen=True)
class Twin:
    """A kept image and its split."""

    image: SourceImage
    split: str


def mark_of(data: bytes) -> Mark:
    """A file's length in bytes, and the CRC-32 of its last bytes."""
    return len(data), zlib.crc32(data[-TAIL:])


def groups(items: Iterable[Item], key: Callable[[Item], Hashable]) -> list[list[Item]]:
    """Groups of two or more items with equal keys; items with the key None are left out."""
    found: dict[Hashable, list[Item]] = defaultdict(list)
    for item in items:
        found[key(item)].append(item)
    return [members for name, members in found.items() if len(members) > 1 and name is not None]


def same_bytes(candidates: Sequence[Sequence[SourceImage]]) -> list[list[SourceImage]]:
    """Groups of images with equal SHA-256 among groups of candidates; unreadable images are left out."""
    flat = [image for group in candidates for image in group]
    with ThreadPoolExecutor(READERS) as pool:
        digests = dict(zip(map(id, flat), pool.map(_sha256, flat), strict=True))
    return [same for group in candidates for same in groups(group, lambda image: digests[id(image)])]


def _sha256(image: SourceImage) -> str | None:
    try:
        return hashlib.sha256(image.data.read()).hexdigest()
    except OSError:
        return None


def _length(image: SourceImage) -> int | None:
    try:
        return image.data.length if image.data.length >= 0 else os.stat(image.data.path).st_size
    except OSError:
        return None


def twins_of(images: Sequence[SourceImage]) -> list[list[Twin]]:
    """Groups of images with the same bytes, each with its split; only files of equal length are read."""
    return [
        [Twin(image, image.split or "train") for image in group]
        for group in same_bytes(groups(images, _length))
    ]


def without_duplicates(images: Sequence[SourceImage]) -> tuple[list[SourceImage], list[dict[str, str]]]:
    """The images without duplicates, and a row of skipped.jsonl for each that was left out.

    The copy in the source's own validation set is kept, because scores must stay comparable; else the first by name.
    """
    dropped: dict[int, str] = {}
    for group in same_bytes(groups(images, _length)):
        first, *rest = sorted(group, key=lambda image: (image.split != "val", image.name))
        dropped |= {id(image): f"duplicate of {shown_name(first.name)}" for image in rest}
    rows = [
        {"source": shown_name(image.name), "reason": dropped[id(image)]}
        for image in images
        if id(image) in dropped
    ]
    return [image for image in images if id(image) not in dropped], rows


def duplicates_of(
    images: Mapping[str, Sequence[SourceImage]], marks: Mapping[str, Sequence[Mark]]
) -> list[list[Twin]]:
    """Groups of kept images with the same bytes.

    Args:
        images: split → its kept images, in order.
        marks: split → each image's mark.
    """
    pairs = [
        (Twin(image, split), mark)
        for split, members in images.items()
        for image, mark in zip(members, marks[split], strict=True)
    ]
    twins = {id(twin.image): twin for twin, _ in pairs}
    candidates = [[twin.image for twin, _ in group] for group in groups(pairs, lambda pair: pair[1])]
    return [[twins[id(image)] for image in group] for group in same_bytes(candidates)]


def told_duplicates(found: Sequence[Sequence[Twin]]) -> str:
    """One line about duplicates; "" if there are none."""
    if not found:
        return ""
    count = sum(len(group) - 1 for group in found)
    across = [group for group in found if len({twin.split for twin in group}) > 1]
    torn = [group for group in found if len({twin.image.cls for twin in group}) > 1]
    parts = [f"{count:,} duplicates: images with the bytes of another one"]
    if across:
        parts.append(f"{len(across):,} are in both splits, {_pair(across[0], lambda twin: twin.split)}")
    if torn:
        parts.append(
            f"{len(torn):,} have several classes, {_pair(torn[0], lambda twin: str(twin.image.cls))}"
        )
    return f"{'; '.join(parts)}; `shard.duplicates: drop` keeps one of each"


def _pair(group: Sequence[Twin], kind: Callable[[Twin], str]) -> str:
    """Two members of a group that differ in kind: `a.jpg (train) = b.jpg (val)`."""
    first = group[0]
    other = next(twin for twin in group if kind(twin) != kind(first))
    return " = ".join(f"{shown_name(twin.image.name)} ({kind(twin)})" for twin in (first, other))
