"""Reuses pictures that an earlier run encoded, so that adding or replacing an image does not encode the others again.

A tar's side file stores each source's stamp (size, modification time). A later run copies the encoded bytes of pictures with
the same name and stamp, and links a tar in which nothing changed.
"""

import hashlib
import os
import zlib
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.images import shard_path
from shards.layouts.listed import Location, SourceImage, shown_name
from shards.making.pictures import Encoding
from workspace.errors import UserError
from workspace.exact.manifest import read_json

MOST_EARLIER = 16
"""Most side files searched per tar: after a change of seed every tar needs all of them, and reading these costs more."""
MOST_SIDE_BYTES = 1 << 30


@dataclass(frozen=True)
class Known:
    """A picture that an earlier run encoded.

    Attributes:
        tar: the file that contains it.
        places: extension → offset, length and CRC-32, the first two in bytes.
        stamp: its source's stamp at that time.
        mark: its source's mark, see `shards.making.duplicates`.
        notes: guesses about it.
    """

    tar: Path
    places: dict[str, tuple[int, int, int]]
    stamp: str
    mark: tuple[int, int]
    notes: tuple[str, ...]

    def members(self) -> dict[str, bytes] | None:
        """Its stored picture and mask; None if these bytes have changed since."""
        found = {}
        try:
            with self.tar.open("rb") as file:
                for name, (offset, length, crc) in self.places.items():
                    file.seek(offset)
                    found[name] = file.read(length)
                    if zlib.crc32(found[name]) != crc:
                        return None
        except OSError:
            return None
        return found


def stamp_of(image: SourceImage) -> str:
    """A text that stays the same while the image's file does; "" if the file cannot be accessed."""
    try:
        mask = "" if image.mask is None else _stamp(image.mask)
        return f"{_stamp(image.data)} {mask}".rstrip()
    except OSError:
        return ""


def _stamp(location: Location) -> str:
    if location.stamp:
        return f"{location.stamp} {location.offset} {location.length}"
    if location.url:
        return ""  # the store has no sign of a changed file
    found = os.stat(location.path)
    return f"{found.st_size} {found.st_mtime_ns} {location.offset} {location.length}"


def recipe_of(
    key: Sequence[object], encoding: Encoding, images: Iterable[SourceImage], stamps: Iterable[str]
) -> str:
    """SHA-256 of everything that determines a tar's bytes.

    Args:
        key: names the tar and its samples.
        encoding: how its pictures are stored.
        images: the images, in order.
        stamps: each image's stamp.
    """
    digest = hashlib.sha256(repr((*key, asdict(encoding))).encode())
    for image, stamp in zip(images, stamps, strict=True):
        facts = (image.cls, image.captions, sorted((image.attributes or {}).items()))
        digest.update(f"{image.name!r} {stamp} {facts!r}\n".encode())
    return digest.hexdigest()


def known_pictures(sides: Sequence[Path], encoding: Encoding) -> dict[str, Known]:
    """Source → the picture that an earlier run encoded, from the tars with these side files."""
    known = {}
    for side in sides:
        told = told_by(side, encoding)
        tar = tar_of(side)
        for row, (stamp, mark, notes) in zip(told["rows"], told["sources"], strict=True):
            places = {
                name: place for name, place in row["members"].items() if name in (encoding.format, "mask.png")
            }
            known[row["source"]] = Known(tar, places, stamp, tuple(mark), tuple(notes))
    return known


def told_by(side: Path, encoding: Encoding) -> dict[str, Any]:
    """A side file's content; without rows if it has another encoding or cannot be read."""
    nothing: dict[str, Any] = {"rows": [], "sources": [], "skipped": [], "recipe": ""}
    try:
        told: dict[str, Any] = read_json(side, MOST_SIDE_BYTES)
    except UserError:
        return nothing
    return told if told.get("encoding") == asdict(encoding) else nothing


def tar_of(side: Path) -> Path:
    """The tar of a side file SPLIT-NUMBER.json."""
    split, _, number = side.stem.rpartition("-")
    return shard_path(side.parent, split, int(number))


def earlier_sides(
    plans: Sequence[Sequence[SourceImage]], works: Sequence[Path], encoding: Encoding
) -> list[tuple[Path, ...]]:
    """For each plan, the side files of earlier runs that contain any of its images, newest run first.

    What it holds is 12 bytes per image of an earlier run.
    """
    sides = [side for work in works for side in sorted(work.glob("*-??????.json"))]
    hashes, numbers = array("q"), array("i")
    for number, side in enumerate(sides):
        found = [hash(row["source"]) for row in told_by(side, encoding)["rows"]]
        hashes.extend(found)
        numbers.extend([number] * len(found))
    order = np.argsort(hashes, kind="stable")
    known, places = np.asarray(hashes)[order], np.asarray(numbers)[order]
    return [tuple(sides[number] for number in _holding(images, known, places)) for images in plans]


def _holding(images: Sequence[SourceImage], known: NDArray[np.int64], places: NDArray[np.int32]) -> list[int]:
    """Numbers of the side files that contain any of the images; none if they are too many."""
    if not len(known):
        return []
    wanted = np.fromiter((hash(shown_name(image.name)) for image in images), np.int64, len(images))
    first = np.searchsorted(known, wanted).clip(0, len(known) - 1)
    found = np.unique(places[first[known[first] == wanted]]).tolist()
    return found if len(found) <= MOST_EARLIER else []
