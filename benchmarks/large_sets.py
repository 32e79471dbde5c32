"""Image shards of any number of images, made in a minute: every tar is a hard link to one, every record of the index is written.

Its images are read and trained on like any others; keys in its tars repeat, so `python -m shards.verify` would refuse it.
"""

import io
import os
import shutil
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shards.images import SPLITS, ImageFacts, shard_path
from shards.making.indexing import IndexWriter, records_of
from workspace.exact.manifest import FileEntry, Manifest, sha256_file, write_sealed
from workspace.exact.tar import TarWriter
from workspace.progress import track

MOST_LINKS = 60_000
"""Links to one file: ext4 allows 65,000."""
CLASSES = tuple(str(number) for number in range(10))


def make_large_set(folder: Path, tars: int, per_tar: int, side: int = 8) -> Path:
    """Image shards with `tars` training tars of `per_tar` images each, and one validation tar; returns `folder`."""
    rows = _write_tar(shard_path(folder, "train", 0), per_tar, side)
    (folder / "val").mkdir()
    os.link(shard_path(folder, "train", 0), shard_path(folder, "val", 0))
    original, sizes = shard_path(folder, "train", 0), {"train": (per_tar,) * tars, "val": (per_tar,)}
    for number in range(1, tars):
        if number % MOST_LINKS == 0:
            original = Path(shutil.copyfile(original, shard_path(folder, "train", number)))
        else:
            os.link(original, shard_path(folder, "train", number))
    records, names = records_of(rows, ["cls", "png"])
    for split in SPLITS:
        _write_index(folder, split, records, names, len(sizes[split]))
    facts = ImageFacts("folder", side, "png", CLASSES, False, None, False, _sums(sizes), sizes)
    _write_manifest(folder, facts)
    return folder


def _sums(sizes: dict[str, tuple[int, ...]]) -> dict[str, int]:
    return {split: sum(found) for split, found in sizes.items()}


def _write_tar(path: Path, count: int, side: int) -> list[dict[str, Any]]:
    path.parent.mkdir(parents=True)
    generator, rows = np.random.default_rng(0), []
    with TarWriter(path) as tar:
        for number in range(count):
            made, key = io.BytesIO(), f"{number:07d}"
            pixels = generator.integers(0, 256, (side, side, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(made, "png")
            members = {"png": made.getvalue(), "cls": CLASSES[number % len(CLASSES)].encode()}
            written = {name: tar.add(f"{key}.{name}", data) for name, data in members.items()}
            places = {
                name: (member.offset, member.length, zlib.crc32(members[name]))
                for name, member in written.items()
            }
            rows.append({"key": key, "members": places, "source": "a"})
    return rows


def _write_index(folder: Path, split: str, records: NDArray[Any], names: bytes, tars: int) -> None:
    with IndexWriter(folder, split, ["cls", "png"], len(records) * tars, tars) as index:
        for _ in track(range(tars), f"index of {split}", "tars"):
            index.add(records, names)
            records["key"] += len(records)


def _write_manifest(folder: Path, facts: ImageFacts) -> None:
    tars = shard_path(folder, "val", 0)
    tar = FileEntry(tars.stat().st_size, sha256_file(tars))
    others = {
        path.name: FileEntry(path.stat().st_size, sha256_file(path))
        for path in folder.iterdir()
        if path.is_file()
    }
    linked = {
        f"{split}/{number:06d}.tar": tar for split in SPLITS for number in range(len(facts.shards[split]))
    }
    write_sealed(
        folder / "manifest.json", Manifest("image-shards", {}, asdict(facts), others | linked).to_json()
    )
