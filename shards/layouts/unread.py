"""Reports labels, captions and splits beside the images that the chosen layout does not read, so that nobody misses them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from shards.layouts.beside import read_beside
from shards.layouts.listed import Source
from shards.layouts.names import counted
from shards.layouts.reading import KEPT_APART, Reading
from shards.layouts.split_lists import disagreeing, is_named_like_splits
from shards.layouts.tars import TARS
from shards.layouts.texts import TEXTS, hold_numbers, texts_beside
from shards.layouts.unread_files import speaking
from shards.layouts.walking import Files
from workspace.errors import UserError
from workspace.stores.opening import StoreError

SIDECARS = (".json", ".xml", ".yaml", ".yml")
"""Extensions of files named like an image that may describe it, and are not read."""
SPLIT_FILES = (".txt", ".csv", ".tsv", ".lst", ".mat", ".npy", ".npz", ".pkl")


def unread(files: Files, found: Source, kind: str, reading: Reading, source: str) -> list[str]:
    """Notes about tables and texts that were not read; none if `shard.tables` was given.

    Text files named like an image are counted, not opened.
    """
    if reading.tables is not None:
        return []
    notes = [*_sidecars(files, found), *_archives(files)]
    if kind == "metadata":
        return [*notes, *_splits(files, found), *speaking(files, found, notes)]
    texts = texts_beside(files, files.names)
    if texts and not any(name in texts for name in found.read) and not hold_numbers(files, texts):
        notes.append(f"{len(texts):,} texts beside the images are not read by kind {kind}{_how(kind, TEXTS)}")
    known = {*texts, *(found.read if kind == "coco" else ())}  # COCO's files are large
    others = replace(files, others={name: why for name, why in files.others.items() if name not in known})
    try:
        beside = read_beside(others, files.names, replace(reading, columns={}), source)
    except StoreError:
        raise
    except UserError as error:
        return [*notes, *_splits(files, found), f"tables beside the images are not read: {error}"]
    folders = {image.name: image.split for image in found.images}
    repeated = beside.lists.only if any(folders.values()) else []  # lists that repeat the folders
    for name in dict.fromkeys(beside.read):
        if name not in (*found.read, *repeated):
            notes.append(f"{name} names these images and is not read by kind {kind}{_how(kind, name)}")
    notes += disagreeing(beside.lists.splits, folders) if repeated else []
    warnings = [
        line for line in beside.warnings if not any(line.startswith(f"{name} ") for name in found.read)
    ]
    notes += [*_splits(files, found, beside.read), *warnings]
    return [*notes, *speaking(files, found, [*notes, *beside.read, *beside.notes])]


def _how(kind: str, name: str) -> str:
    if kind in ("class_folder", "file_names"):
        what = "captions" if name == TEXTS else "captions and splits"
        return f": shard.tables: ['{name}'] takes {what} from it, shard.kind: metadata labels"
    return ": shard.kind: metadata takes labels, captions or splits from it"


def _archives(files: Files) -> list[str]:
    """Notes about archives beside pictures: their origin, or the data set itself."""
    tars = [name for name in files.others if name.lower().endswith(TARS)]
    zips = [name for name in files.others if name.lower().endswith(".zip")]
    told = [f"{counted(zips, 3)} beside the pictures not read: unpack it, or name it alone"] if zips else []
    return told + (
        [f"{counted(tars, 3)} beside the pictures not read: shard.kind: webdataset reads only tars"]
        if tars
        else []
    )


def _sidecars(files: Files, found: Source) -> list[str]:
    """Notes about files such as 0001.json beside 0001.jpg."""
    if any(image.captions for image in found.images):
        return []
    images = {name.rpartition(".")[0] for name in files.names}
    kinds = Counter(
        suffix
        for name in files.others
        if (suffix := PurePosixPath(name).suffix.lower()) in SIDECARS and name.rpartition(".")[0] in images
    )
    return [
        f"{count:,} {suffix} files named like their image are not read: a metadata.jsonl or labels.csv for all images would be"
        for suffix, count in kinds.items()
    ]


def _splits(files: Files, found: Source, told: Sequence[str] = ()) -> list[str]:
    """Notes about unread files named like splits, for a source without splits: `train_test_split.txt`."""
    if KEPT_APART in found.passed_over or any(image.split for image in found.images):
        return []
    names = [
        name
        for name in files.others
        if PurePosixPath(name).suffix.lower() in SPLIT_FILES
        and is_named_like_splits(name)
        and name not in (*found.read, *told)
    ]
    if not names:
        return []
    how = "a table of names and splits would be, or a list of names for each split"
    return [f"{counted(names, 3)}: named like splits, and not read ({how})"]
