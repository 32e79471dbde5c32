"""Pictures that an earlier run has made already: an image that is added, or replaced, costs no other one its encoding.

A tar's side file remembers of each picture where its source was stamped (bytes, time of change). A later run copies the
encoded bytes of pictures whose name and stamp are the same, and links a tar in which nothing changed at all.
"""

import hashlib
import os
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shards.images import shard_path
from shards.layouts.listed import Location, SourceImage, shown_name
from shards.making.pictures import Encoding
from workspace.errors import UserError
from workspace.exact.manifest import read_json

MOST_EARLIER = 16
"""Side files that one tar is looked up in at most: another seed mixes everything, and reading all for each costs more."""
MOST_SIDE_BYTES = 1 << 30


@dataclass(frozen=True)
class Known:
    """A picture that an earlier run made.

    Attributes:
        tar: the file that holds it.
        places: extension → offset, length and CRC-32, the first two in bytes.
        stamp: of its source then.
        mark: of its source's bytes, see `shards.making.duplicates`.
        notes: guesses about it.
    """

    tar: Path
    places: dict[str, tuple[int, int, int]]
    stamp: str
    mark: tuple[int, int]
    notes: tuple[str, ...]

    def members(self) -> dict[str, bytes] | None:
        """Its picture and mask as they are stored; None where they are not what they were."""
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
    """What an unchanged image has unchanged; "" where its file cannot be looked at."""
    try:
        mask = "" if image.mask is None else _stamp(image.mask)
        return f"{_stamp(image.data)} {mask}".rstrip()
    except OSError:
        return ""


def _stamp(location: Location) -> str:
    found = os.stat(location.path)
    return f"{found.st_size} {found.st_mtime_ns} {location.offset} {location.length}"


def recipe_of(
    key: Sequence[object], encoding: Encoding, images: Iterable[SourceImage], stamps: Iterable[str]
) -> str:
    """SHA-256 of everything that decides a tar's bytes.

    Args:
        key: what names the tar and its samples.
        encoding: of its pictures.
        images: in order.
        stamps: of each.
    """
    digest = hashlib.sha256(repr((*key, asdict(encoding))).encode())
    for image, stamp in zip(images, stamps, strict=True):
        facts = (image.cls, image.captions, sorted((image.attributes or {}).items()))
        digest.update(f"{image.name!r} {stamp} {facts!r}\n".encode())
    return digest.hexdigest()


def known_pictures(sides: Sequence[Path], encoding: Encoding) -> dict[str, Known]:
    """Source → what earlier runs made of it, of the tars with these side files."""
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
    """What the side file of a tar of this encoding says; no rows where it is another's, or cannot be read."""
    nothing: dict[str, Any] = {"rows": [], "sources": [], "skipped": [], "recipe": ""}
    try:
        told: dict[str, Any] = read_json(side, MOST_SIDE_BYTES)
    except UserError:
        return nothing
    return told if told.get("encoding") == asdict(encoding) else nothing


def tar_of(side: Path) -> Path:
    """The tar that a side file SPLIT-NUMBER.json is about."""
    split, _, number = side.stem.rpartition("-")
    return shard_path(side.parent, split, int(number))


def earlier_sides(
    plans: Sequence[Sequence[SourceImage]], works: Sequence[Path], encoding: Encoding
) -> list[tuple[Path, ...]]:
    """For each plan's images the side files of earlier runs that know any of them, newest run first."""
    sides = [side for work in works for side in sorted(work.glob("*-??????.json"))]
    place: dict[int, int] = {}
    for number, side in enumerate(sides):
        for row in told_by(side, encoding)["rows"]:
            place.setdefault(hash(row["source"]), number)
    found = []
    for images in plans:
        numbers = {place.get(hash(shown_name(image.name)), -1) for image in images} - {-1}
        few = sorted(numbers) if len(numbers) <= MOST_EARLIER else []
        found.append(tuple(sides[number] for number in few))
    return found
