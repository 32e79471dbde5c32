"""Images with the same bytes: counted, named if they are in both splits, and left out if asked.

A file's length and the CRC-32 of its last bytes distinguish nearly all files at no cost; files that agree in both are read
again and compared by SHA-256.
"""

import hashlib
import os
import zlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from shards.layouts.listed import Images, SourceImage, shown_name

Duplicates = Literal["keep", "drop"]
Mark = tuple[int, int]
Item = TypeVar("Item")
TAIL = 4096
"""Number of bytes at a file's end whose CRC-32 is taken."""
READERS = 8
"""Number of threads that read files again; they mostly wait for the disk."""
COMPARED = 4096
"""Groups of files that are compared before the next ones are looked at."""


@dataclass(frozen=True)
class Twin:
    """A kept image and its split."""

    image: SourceImage
    split: str


@dataclass(frozen=True)
class Tally:
    """Images with the bytes of another one, counted.

    Attributes:
        more: images beyond the first of each group.
        across: groups that are in both splits.
        torn: groups that have several classes.
        first_across: two images of the first such group, as text.
        first_torn: the same.
    """

    more: int = 0
    across: int = 0
    torn: int = 0
    first_across: str = ""
    first_torn: str = ""


def mark_of(data: bytes) -> Mark:
    """A file's length in bytes, and the CRC-32 of its last bytes."""
    return len(data), zlib.crc32(data[-TAIL:])


def packed(marks: Sequence[Sequence[int]]) -> NDArray[np.uint64]:
    """Marks, one number each."""
    pairs = np.asarray(marks, np.uint64).reshape(-1, 2)
    return (pairs[:, 0] << np.uint64(32)) | pairs[:, 1]


def groups(items: Iterable[Item], key: Callable[[Item], Hashable]) -> list[list[Item]]:
    """Groups of two or more items with equal keys; items with the key None are left out."""
    found: dict[Hashable, list[Item]] = defaultdict(list)
    for item in items:
        found[key(item)].append(item)
    return [members for name, members in found.items() if len(members) > 1 and name is not None]


def equal(keys: NDArray[np.generic]) -> Iterator[list[int]]:
    """Places of equal keys, groups of two or more, in the order of their first ones. It holds 16 bytes per key."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])) if len(keys) else order
    ends = np.append(starts[1:], len(keys))
    several = np.flatnonzero(ends - starts > 1)
    several = several[np.argsort(order[starts[several]])]
    for start, end in zip(starts[several].tolist(), ends[several].tolist(), strict=True):
        yield order[start:end].tolist()


def same_bytes(
    candidates: Iterable[Sequence[int]], image_of: Callable[[int], SourceImage]
) -> Iterator[list[int]]:
    """Groups of images with equal SHA-256 among groups of candidates; unreadable images are left out.

    Args:
        candidates: numbers of images.
        image_of: a number → the image.
    """
    waiting = iter(candidates)
    with ThreadPoolExecutor(READERS) as pool:
        while some := list(islice(waiting, COMPARED)):
            flat = [number for group in some for number in group]
            digests = dict(zip(flat, pool.map(_sha256, map(image_of, flat)), strict=True))
            for group in some:
                yield from groups(group, digests.__getitem__)


def _sha256(image: SourceImage) -> str | None:
    try:
        return hashlib.sha256(image.data.read()).hexdigest()
    except OSError:
        return None


def _of_equal_length(images: Sequence[SourceImage]) -> Iterator[list[int]]:
    """Groups of files of the same length; those that cannot be read are left out."""
    lengths = np.fromiter((_length(image) for image in images), np.int64, len(images))
    return (group for group in equal(lengths) if lengths[group[0]] >= 0)


def _length(image: SourceImage) -> int:
    try:
        return image.data.length if image.data.length >= 0 else os.stat(image.data.path).st_size
    except OSError:
        return -1


def twins_of(images: Sequence[SourceImage]) -> Iterator[list[Twin]]:
    """Groups of images with the same bytes, each with its split; only files of equal length are read."""
    for group in same_bytes(_of_equal_length(images), images.__getitem__):
        yield [Twin(image, image.split or "train") for image in map(images.__getitem__, group)]


def without_duplicates(
    images: Images,
) -> tuple[Images, list[dict[str, str]]]:
    """The images without duplicates, and a row of skipped.jsonl for each that was left out.

    The copy in the source's own validation set is kept, because scores must stay comparable; else the first by name.
    """
    dropped: dict[int, str] = {}
    for group in same_bytes(_of_equal_length(images), images.__getitem__):
        named = {number: images[number] for number in group}
        first, *rest = sorted(group, key=lambda number: (named[number].split != "val", named[number].name))
        dropped |= dict.fromkeys(rest, f"duplicate of {shown_name(named[first].name)}")
    rows = [
        {"source": shown_name(images[number].name), "reason": dropped[number]} for number in sorted(dropped)
    ]
    kept = np.ones(len(images), np.bool_)
    kept[list(dropped)] = False
    return images.only(kept), rows


def duplicates_of(
    marks: Mapping[str, NDArray[np.uint64]], image_of: Callable[[str, int], SourceImage]
) -> Iterator[list[Twin]]:
    """Groups of kept images with the same bytes.

    Args:
        marks: split → each kept image's mark, `packed`.
        image_of: split and the number of a kept image → the image.
    """
    splits = list(marks)
    ends = np.cumsum([len(marks[split]) for split in splits])

    def twin(number: int) -> Twin:
        place = int(np.searchsorted(ends, number, "right"))
        start = int(ends[place - 1]) if place else 0
        return Twin(image_of(splits[place], number - start), splits[place])

    candidates = equal(np.concatenate([marks[split] for split in splits]))
    for group in same_bytes(candidates, lambda number: twin(number).image):
        yield list(map(twin, group))


def tallied(found: Iterable[Sequence[Twin]]) -> Tally:
    """Groups of images with the same bytes, counted; one group is held at a time."""
    more = across = torn = 0
    first_across = first_torn = ""
    for group in found:
        more += len(group) - 1
        if len({twin.split for twin in group}) > 1:
            across += 1
            first_across = first_across or _pair(group, lambda twin: twin.split)
        if len({twin.image.cls for twin in group}) > 1:
            torn += 1
            first_torn = first_torn or _pair(group, lambda twin: str(twin.image.cls))
    return Tally(more, across, torn, first_across, first_torn)


def told_duplicates(tally: Tally) -> str:
    """One line about duplicates; "" if there are none."""
    if not tally.more:
        return ""
    parts = [f"{tally.more:,} duplicates: images with the bytes of another one"]
    if tally.across:
        parts.append(f"{tally.across:,} are in both splits, {tally.first_across}")
    if tally.torn:
        parts.append(f"{tally.torn:,} have several classes, {tally.first_torn}")
    return f"{'; '.join(parts)}; `shard.duplicates: drop` keeps one of each"


def _pair(group: Sequence[Twin], kind: Callable[[Twin], str]) -> str:
    """Two members of a group that differ in kind: `a.jpg (train) = b.jpg (val)`."""
    first = group[0]
    other = next(twin for twin in group if kind(twin) != kind(first))
    return " = ".join(f"{shown_name(twin.image.name)} ({kind(twin)})" for twin in (first, other))
