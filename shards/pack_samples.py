"""Images that others made, as samples that `evaluate` scores: a folder of pictures, a tar or zip of them, or ADM's .npz.

    python -m shards.pack_samples IMAGES --out FOLDER [--image-size PIXELS] [--classes NAMES.txt]

Every image counts, in the order of the names, since a score is of all of them: where one cannot be read, or has another size,
nothing is packed and the message counts them. Pictures that are grey, transparent, of a palette, of CMYK or of 16 bits are
converted as `shard` does, and counted. Nothing is resized: that would be part of the score. A picture's class is the name of its
folder, or its number in `arr_1`, where all images have one among the given classes.
"""

import io
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shards.images.opening import NO_IMAGE, opened
from shards.layouts.formats import PassedOver, told_passed_over
from shards.layouts.listed import shown_name
from shards.layouts.tars import TARS, members
from shards.layouts.walking import Files, sorted_by_kind, walk
from shards.layouts.zipped import files_of_zip
from shards.making.pictures import Encoding, encode_image
from shards.making.writing import reason
from shards.npz import arrays_in, images_in
from shards.samples import SampleFacts, SampleRecord, write_encoded
from shards.token_sets import lines_of
from workspace.commands import parser_of
from workspace.errors import UserError, mistakes_in_one_line
from workspace.exact.manifest import write_manifest
from workspace.fingerprints import input_fingerprint
from workspace.progress import Progress, say

PER_TAR, AT_ONCE = 1000, 64
TAR = b"ustar"
ACCEPTED = "a folder of images, a tar or zip of them, or an .npz"
NO_BORDERS = 1
"""Pixels a side of cells of which nothing is known: no grid is looked for."""
Made = tuple[bytes, frozenset[str]]
"""A picture as PNG, and the conversions that it needed."""


@dataclass(frozen=True)
class Found:
    """Images that others made, not yet read.

    Attributes:
        names: of each, in order.
        make: number of an image → its picture, before its size is known to be right; raises one of `NO_IMAGE` for anything else.
        classes: number of each one's class; None where not all have one.
        passed_over: why other files, or all labels, were passed over → how many.
    """

    names: Sequence[str]
    make: Callable[[int, int], Made]
    classes: Sequence[int] | None
    passed_over: PassedOver


class OtherSizeError(ValueError):
    """A picture of another size, (width, height), than was asked for."""

    def __init__(self, size: tuple[int, int], side: int) -> None:
        super().__init__(f"of {size[0]} × {size[1]} pixels, expected {side} × {side}")
        self.size = size


def pack(images: Path, out: Path, image_size: int | None, classes: Sequence[str] | None) -> None:
    """Write an artifact of samples.

    Args:
        images: what others made.
        out: a new or empty folder.
        image_size: pixels per side; None takes the first image's.
        classes: names of the classes that images may have; None gives them none.

    Raises:
        UserError: there are no images, or one cannot be read or has another size.
    """
    out = out.absolute()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is not empty; expected a new folder")
    found = find(images, classes)
    side = image_size or _side_of_first(found)
    work = out.with_name(f".{out.name}.unfinished")
    shutil.rmtree(work, ignore_errors=True)  # of a run that was stopped
    bad, notes = Counter[str](), Counter[str]()
    first: dict[str, str] = {}
    with Progress("images", len(found.names), "images") as progress:
        for number in range(0, len(found.names), PER_TAR):
            part = range(number, min(number + PER_TAR, len(found.names)))
            pictures = _pictures(found, part, side, bad, first, notes)
            write_encoded(work / f"{number // PER_TAR:06d}.tar", pictures)
            progress.update(part.stop)
    if bad:
        shutil.rmtree(work)
        reasons = ", ".join(f"{count:,} {why} (the first: {first[why]})" for why, count in bad.most_common())
        raise UserError(
            f"{images}: {sum(bad.values()):,} of {len(found.names):,} images cannot be scored: {reasons}; a score is of all "
            "images: fix or remove these"
        )
    for line in (
        told_passed_over(found.passed_over),
        ", ".join(f"{n:,} {why}" for why, n in sorted(notes.items())),
    ):
        if line:
            say(f"{images}: {line}")
    facts = SampleFacts(
        seed=0, count=len(found.names), settings={}, condition="none" if found.classes is None else "class",
        classes=None if found.classes is None else tuple(classes or ()), image_size=side,
        cell_pixels=NO_BORDERS, stem_pixels=NO_BORDERS,
    )  # fmt: skip
    write_manifest(work, "samples", asdict(facts), {"images": input_fingerprint(images)})
    work.replace(out)


def _pictures(
    found: Found, part: range, side: int, bad: Counter[str], first: dict[str, str], notes: Counter[str]
) -> Iterator[tuple[SampleRecord, bytes]]:
    """Records and PNGs of some images, in order; what cannot be read is counted by reason."""

    def make(number: int) -> Made | str:
        try:
            return found.make(number, side)
        except OtherSizeError as error:
            return str(error)
        except NO_IMAGE as error:
            return reason(error)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for numbers in (part[start : start + AT_ONCE] for start in range(0, len(part), AT_ONCE)):
            for number, made in zip(numbers, pool.map(make, numbers), strict=True):
                if isinstance(made, str):
                    bad[made] += 1
                    first.setdefault(made, shown_name(found.names[number]))
                    continue
                notes.update(made[1])
                cls = None if found.classes is None else found.classes[number]
                yield SampleRecord(number, cls=cls), made[0]


def _side_of_first(found: Found) -> int:
    """Pixels per side of the first image that can be read.

    Raises:
        UserError: none can, or it is not square.
    """
    try:
        found.make(0, 0)
    except OtherSizeError as error:
        width, height = error.size
        if width == height:
            return int(width)
        raise UserError(f"{found.names[0]} has {width} × {height} pixels; expected square images") from error
    except NO_IMAGE as error:
        raise UserError(f"{shown_name(found.names[0])}: {reason(error)}") from error
    raise AssertionError("no image has 0 pixels")


def find(path: Path, classes: Sequence[str] | None) -> Found:
    """Look at a folder, a tar, a zip or an .npz, without decoding anything.

    Raises:
        UserError: there is nothing, or it holds no images.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist; expected {ACCEPTED}")
    found = _of_npz(path, classes) if _is_npz(path) else _of_files(_files(path), classes)
    if not found.names:
        seen = told_passed_over(found.passed_over)
        raise UserError(f"{path} holds no images{seen and f' ({seen})'}; expected {ACCEPTED}")
    return found


def _is_npz(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() == ".npz"


def _files(path: Path) -> Files:
    """Pictures and other files, by name."""
    if path.is_dir():
        files = walk(path)
        tars = [name for name in files.others if name.lower().endswith(TARS)]
        if files.names or not tars:
            return files
        inside = {f"{tar}/{name}": place for tar in tars for name, place in members(path / tar)}
        return sorted_by_kind(path, inside, inside)
    with path.open("rb") as file:
        head = file.read(300)
    if head.startswith(b"PK"):
        return files_of_zip(path)
    if head[257:262] == TAR or path.name.lower().endswith(TARS):
        inside = {name.removeprefix("./"): place for name, place in members(path)}
        return sorted_by_kind(path, inside, inside)
    raise UserError(f"{path} is one file; expected {ACCEPTED}")


def _of_files(files: Files, classes: Sequence[str] | None) -> Found:
    places = [files.locate(name) for name in files.names]
    numbers = {name: number for number, name in enumerate(classes or ())}
    labels = [numbers.get(name.rpartition("/")[0].rpartition("/")[2], -1) for name in files.names]

    def make(number: int, side: int) -> Made:
        return _converted(places[number].read(), side)

    return Found(files.names, make, labels if min(labels, default=-1) >= 0 else None, files.passed_over())


def _converted(data: bytes, side: int) -> Made:
    image = opened(data)
    _require_size(image.size, side)
    notes = {f"of mode {image.mode}, made RGB"} if image.mode not in ("RGB", "RGBA") else set[str]()
    return encode_image(data, Encoding(side, "png", 0), notes), frozenset(notes)


def _require_size(size: tuple[int, int], side: int) -> None:
    if size != (side, side):
        raise OtherSizeError(size, side)


def _of_npz(path: Path, classes: Sequence[str] | None) -> Found:
    images, labels = images_in(arrays_in(path), path)
    count, height, width, _ = images.shape
    fit = labels is not None and count and labels.min() >= 0 and labels.max() < len(classes or ())
    unread = (
        {"labels, which are not the reference's classes": count} if labels is not None and not fit else {}
    )

    def make(number: int, side: int) -> Made:
        _require_size((width, height), side)
        return _encoded(np.asarray(images[number])), frozenset()

    names = [f"{number:08d}" for number in range(count)]
    return Found(names, make, labels.tolist() if labels is not None and fit else None, unread)


def _encoded(image: NDArray[np.uint8]) -> bytes:
    """uint8 [H, W, 3] → PNG, quickly."""
    made = io.BytesIO()
    Image.fromarray(image).save(made, "png", compress_level=1)
    return made.getvalue()


def main(words: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = parser_of("shards.pack_samples", __doc__)
    parser.add_argument("images", type=Path, help=ACCEPTED)
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    parser.add_argument(
        "--image-size", type=int, help="pixels per side that all must have (the first image's)"
    )
    parser.add_argument("--classes", type=Path, help="NAMES.txt, a class name per line")
    asked = parser.parse_args(words)
    with mistakes_in_one_line():
        names = None if asked.classes is None else lines_of(asked.classes)
        pack(asked.images, asked.out, asked.image_size, names)


if __name__ == "__main__":
    main()
