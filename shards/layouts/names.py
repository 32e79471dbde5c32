"""Recognises names of files and folders: splits, system folders, parts of a data set that are not classes."""

import re
from collections.abc import Iterable
from pathlib import PurePosixPath

SPLIT_WORDS = {
    "train": "train", "training": "train", "trainset": "train", "trainval": "train", "trn": "train",
    "val": "val", "valid": "val", "validation": "val", "valset": "val", "validset": "val", "dev": "val",
    "devset": "val", "eval": "val", "evaluation": "val", "holdout": "val", "heldout": "val",
    "test": "test", "testing": "test", "testset": "test", "tst": "test",
}  # fmt: skip
FILLERS = frozenset([
    "set", "sets", "data", "dataset", "split", "images", "image", "imgs", "img", "pictures", "photos",
    "files", "folder", "jpg", "jpeg", "png", "x", "px", "cropped", "resized", "crop", "clean", "full", "all",
])  # fmt: skip
"""Words that may accompany a split's name: `training_set`, `train2017`, `test-images`, `val_256x256`."""
SYSTEM = frozenset([
    "__macosx", "@eadir", "__pycache__", "thumbs.db", "desktop.ini", "$recycle.bin", "#recycle", "@recycle",
    "@recently-snapshot", "lost+found", "ehthumbs.db", "icon\r", "system volume information",
])  # fmt: skip
"""Files that file managers and network disks leave behind, in lower case."""
PICTURES = frozenset([
    "images", "image", "imgs", "img", "pictures", "photos", "jpg", "jpeg", "jpegs", "inputs", "originals",
    "original",
])  # fmt: skip
"""Names of folders that hold the pictures themselves."""
PARTS = PICTURES | frozenset([
    "png", "pngs", "masks", "mask", "labels", "label", "annotations", "annotation", "segmentation",
    "segmentations", "trimaps", "trimap", "ground_truth", "gt", "depth", "edges", "targets", "outputs",
])  # fmt: skip
"""Names of a data set's parts, which are not classes."""


def split_of(name: str) -> str | None:
    """The split that a folder is named after (train, val or test): `Training`, `val2017`, `test_images`; else None."""
    words = words_of(name)
    found = [SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS]
    rest = [word for word in words if word not in SPLIT_WORDS and word not in FILLERS]
    return found[0] if len(set(found)) == 1 and not rest else None


def splits_of(names: Iterable[str]) -> dict[str, str | None]:
    """The split that each of several sibling folders is named after, by the words that differ: `cars_train`, `cars_test`.

    Shared words are ignored only if that yields two splits: `train_station` beside `bus_station` is not a split.
    """
    names = list(names)
    words = {name: words_of(name) for name in names}
    shared = set.intersection(*map(set, words.values())) if len(names) > 1 else set()
    rest = {name: split_of(" ".join(word for word in words[name] if word not in shared)) for name in names}
    several = len(set(rest.values()) - {None}) > 1
    return {name: split_of(name) or (rest[name] if several else None) for name in names}


def begins_like_split(name: str) -> bool:
    """Whether a folder's name begins like a split's, even if it is not a split's: `trainA`, `test_tube`, `val`."""
    return any(word in SPLIT_WORDS for word in words_of(name)[:1])


def ending_like_splits(names: Iterable[str]) -> list[str]:
    """Names that end like splits, if several splits appear: `horse_train`, `horse_test`, but not only `steam_train`."""
    ends = {
        name: SPLIT_WORDS[words[-1]]
        for name in names
        if (words := words_of(name)) and words[-1] in SPLIT_WORDS
    }
    return sorted(ends) if len(set(ends.values())) > 1 else []


def words_of(name: str) -> list[str]:
    """`TrainSet_2` → train, set."""
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)]


def is_hidden(name: str) -> bool:
    """Whether a file or folder belongs to the system, not to the data: `.ipynb_checkpoints`, `__MACOSX`, `Thumbs.db`."""
    return name.startswith(".") or name.lower() in SYSTEM


def hidden_part(path: str) -> str | None:
    """The first hidden folder or file on a path, if there is one."""
    return next((part for part in path.split("/") if is_hidden(part)), None)


def stem_of(name: str) -> str:
    """A file's name without its folder and last extension."""
    return PurePosixPath(name).stem


def counted(names: list[str], most: int = 5) -> str:
    """The first few names, and how many more: `a, b and 3 others`."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most:,} others"
