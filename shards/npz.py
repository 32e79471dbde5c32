"""Images as ADM's evaluator takes them: an .npz of `arr_0`, uint8 [N, H, W, 3], and where there are classes `arr_1`, int64 [N].

ADM (Dhariwal & Nichol 2021) keeps reference statistics in the same kind of file: `mu` [D] and `sigma` [D, D] of Inception's
features. No array that would need pickle is read.

    python -m shards.npz SAMPLES FILE.npz                  the images of artifacts/samples
    python -m shards.npz SHARDS FILE.npz --split val       the real images of artifacts/shards
"""

import math
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from shards.images import SPLITS, ImageShards
from shards.samples import SampleFacts, read_samples, sample_shards
from workspace.commands import parser_of
from workspace.errors import UserError, mistakes_in_one_line
from workspace.exact.manifest import atomic_path, facts_of, kind_of, read_manifest
from workspace.exact.mapped import NO_HEADER
from workspace.progress import Progress, say

IMAGES, LABELS, MEAN, COVARIANCE = "arr_0", "arr_1", "mu", "sigma"
EPOCH = (1980, 1, 1, 0, 0, 0)
"""The date of each member, so that equal images give equal bytes."""
LOCAL_HEADER, NAME_LENGTH = 30, 26
"""Bytes of a zip member's own header before its name, and where the lengths of the name and of what follows it are."""
TORN = (zipfile.BadZipFile, zlib.error, OSError, struct.error, RuntimeError, *NO_HEADER)
Labelled = tuple[NDArray[np.uint8], int | None]
"""An image, uint8 [H, W, 3], and its class."""


def arrays_in(path: Path) -> dict[str, NDArray[np.generic]]:
    """The arrays of an .npz by name; those that are stored as they are stay on the disk until they are used.

    Raises:
        UserError: missing, damaged, or with an array that would need pickle.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
            if broken is not None:
                raise UserError(f"{path} is damaged: the CRC-32 of {broken} is wrong")
            members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
            return {info.filename.removesuffix(".npy"): _array(path, archive, info) for info in members}
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist") from error
    except TORN as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is not an .npz that can be read: {str(error).splitlines()[0]}") from error


def _array(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> NDArray[np.generic]:
    with archive.open(info) as member:
        version = npy.read_magic(member)
        reader = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, by_columns, kind = reader(member)
        header = member.tell()
        if kind.hasobject:
            raise UserError(f"{path}: {info.filename} holds Python objects, which only pickle reads: refused")
        if info.file_size != header + math.prod(shape) * kind.itemsize:
            raise UserError(f"{path}: {info.filename} is not as long as its shape {shape} says")
    if info.compress_type != zipfile.ZIP_STORED or 0 in shape or not shape:
        with archive.open(info) as member:
            return np.asarray(npy.read_array(member, allow_pickle=False))
    with path.open("rb") as file:
        file.seek(info.header_offset + NAME_LENGTH)
        start = info.header_offset + LOCAL_HEADER + sum(struct.unpack("<HH", file.read(4)))
    return np.memmap(path, kind, "r", start + header, shape, "F" if by_columns else "C")


def images_in(
    arrays: dict[str, NDArray[np.generic]], path: Path
) -> tuple[NDArray[np.uint8], NDArray[np.int64] | None]:
    """`arr_0` and, where it is there, `arr_1`.

    Raises:
        UserError: they are not as ADM writes them; the message says what they are.
    """
    if IMAGES not in arrays:
        raise UserError(
            f"{path} holds {', '.join(arrays) or 'nothing'}; expected {IMAGES}, uint8 [N, H, W, 3]"
        )
    images, labels = arrays[IMAGES], arrays.get(LABELS)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        raise UserError(
            f"{path}: {IMAGES} is {images.dtype} {list(images.shape)}, expected uint8 [N, H, W, 3], levels 0 … 255"
        )
    levels: NDArray[np.uint8] = images.view(np.uint8)
    if labels is None:
        return levels, None
    if labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
        raise UserError(
            f"{path}: {LABELS} is {labels.dtype} {list(labels.shape)}, expected whole numbers [{len(images)}], a class each"
        )
    return levels, labels.astype(np.int64)


def write_npz(path: Path, count: int, side: int, images: Iterable[Labelled]) -> None:
    """Write images one by one, and their classes where each has one; equal images give equal bytes.

    Args:
        path: of the file, which is replaced when it is whole.
        count: N.
        side: pixels per side.
        images: N of them.

    Raises:
        UserError: a class is known of some images and not of others.
    """
    classes: list[int] = []
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        with archive.open(zipfile.ZipInfo(f"{IMAGES}.npy", EPOCH), "w", force_zip64=True) as member:
            shape = {"descr": "|u1", "fortran_order": False, "shape": (count, side, side, 3)}
            npy.write_array_header_1_0(member, shape)
            for image, cls in images:
                member.write(image.tobytes())
                classes += [] if cls is None else [cls]
        if len(classes) not in (0, count):
            raise UserError(f"{len(classes):,} of {count:,} images have a class; expected all, or none")
        if classes:
            with archive.open(zipfile.ZipInfo(f"{LABELS}.npy", EPOCH), "w") as member:
                npy.write_array(member, np.array(classes, np.int64), allow_pickle=False)


def export(artifact: Path, split: str, path: Path) -> int:
    """Write the images of samples, or of a split of image shards; returns how many.

    Raises:
        UserError: it is another kind of artifact, or damaged.
    """
    kind = kind_of(artifact)
    if kind == "samples":
        manifest = read_manifest(artifact, kind)
        drawn = facts_of(SampleFacts, manifest)
        found = (
            sample for tar in sample_shards(artifact, manifest) for sample in read_samples(tar, manifest)
        )
        pairs: Iterator[Labelled] = ((sample.image, sample.record.cls) for sample in found)
        count, side = drawn.count, drawn.image_size
    elif kind == "image-shards":
        shards = ImageShards.open(artifact)
        real = (sample for tar in shards.paths(split) for sample in shards.samples(tar))
        pairs = ((sample.image, sample.cls) for sample in real)
        count, side = shards.count(split), shards.facts.image_size
    else:
        raise UserError(
            f"{artifact} is {kind}, which holds no set of images; expected samples or image-shards"
        )
    write_npz(path, count, side, _watched(pairs, count))
    return count


def _watched(pairs: Iterator[Labelled], count: int) -> Iterator[Labelled]:
    with Progress("npz", count, "images", None) as progress:
        for number, pair in enumerate(pairs, start=1):
            yield pair
            progress.update(number)


def main(words: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = parser_of("shards.npz", __doc__)
    parser.add_argument("artifact", type=Path, help="a folder of samples or of image shards")
    parser.add_argument("file", type=Path, help="what to write, FILE.npz")
    parser.add_argument("--split", choices=SPLITS, default="val", help="of image shards (val)")
    asked = parser.parse_args(words)
    with mistakes_in_one_line():
        count = export(asked.artifact, asked.split, asked.file)
    say(f"{count:,} images → {asked.file}")


if __name__ == "__main__":
    main()
