"""Splits from files: lists of names such as train.txt and test.txt, or a table's split column."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from shards.layouts.formats import PassedOver, add
from shards.layouts.names import SPLIT_WORDS, counted, split_of, words_of
from shards.layouts.reading import KEPT_APART, SKIPPED_BY_ROLE, SPLIT_ROLES, Reading
from workspace.errors import UserError

NO_SPLIT = "no split in a table"
PARTITIONS = {"0": "train", "1": "val", "2": "test"}
"""CelebA's split numbers."""
BOTH = "trainval"
FILE_WORDS = frozenset({
    "list", "lists", "listing", "name", "names", "file", "files", "filename", "filenames", "filelist", "id", "ids", "label",
    "labels", "annotation", "annotations", "caption", "captions", "metadata", "meta", "info", "index", "solution",
})  # fmt: skip
"""Words that may accompany a split in a file's name: `train_list.txt`, `test_labels.csv`."""
FLAGS = {
    "is_valid": ("val", "train"), "is_val": ("val", "train"), "is_validation": ("val", "train"),
    "is_test": ("test", "train"), "is_train": ("train", "test"),
}  # fmt: skip
"""Yes/no columns → the splits that yes and no mean."""
YES, NO = ("true", "1", "1.0", "yes"), ("false", "0", "0.0", "no")
SPLIT_NAMED = re.compile(
    r"(?<![a-z])(train|val|valid|validation|test|testing|training|splits?|setid)(?![a-z])", re.IGNORECASE
)


@dataclass
class Lists:
    """Splits from files named after one.

    Attributes:
        splits: image → train, val or test.
        files: image → the file that gives its split.
        only: files that give nothing but the split.
        torn: a note about an image that two splits' lists name; "" if there is none.
    """

    splits: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    only: list[str] = field(default_factory=list)
    torn: str = ""

    def add(self, file: str, split: str, names: Iterable[str]) -> None:
        """Add a list. An image in a list of train and val together, and in one of val, is val."""
        both = BOTH in PurePosixPath(file).stem.lower().replace("_", "")
        for name in names:
            known = self.splits.get(name)
            if known is None or known == split or BOTH in self.files[name].lower().replace("_", ""):
                self.splits[name], self.files[name] = split, file
            elif not both:
                self.torn = self.torn or f"{name} is in {self.files[name]} ({known}) and in {file} ({split})"


def split_of_file(name: str) -> str | None:
    """The split in a table's or list's file name: `train.txt`, `test_labels.csv`, `splits/val1.txt`."""
    words = [word for word in words_of(PurePosixPath(name).stem) if word not in FILE_WORDS]
    return split_of(" ".join(words))


def of_split(names: Iterable[str], split: str | None) -> list[str]:
    """Names in a split's folders (`trainLabels.csv` is about train/); without a split, all except a test split's."""
    folders = {name: {split_of(part) for part in name.split("/")[:-1]} for name in names}
    return [name for name, own in folders.items() if (split in own if split else "test" not in own)]


def is_named_like_splits(name: str) -> bool:
    """Whether a file's name refers to splits: `train_test_split.txt`, `setid.mat`."""
    return SPLIT_NAMED.search(PurePosixPath(name).stem) is not None


def are_splits(column: str, values: Iterable[object]) -> bool:
    """Whether a column's cells are splits; False if it is empty."""
    texts = {str(value).strip() for value in values if value is not None}
    if column.strip().lower() in FLAGS:
        return bool(texts) and all(text.lower() in (*YES, *NO) for text in texts)
    return bool(texts) and all(split_value(text) for text in texts)


def split_text(column: str, value: object) -> str:
    """A cell's split: its text, or in a column such as `is_valid` the split that yes or no means."""
    text, flags = str(value).strip(), FLAGS.get(column.strip().lower())
    return text if flags is None or text.lower() not in (*YES, *NO) else flags[text.lower() in NO]


def split_value(value: str) -> str | None:
    """The split that a cell names, as a word or as CelebA's number."""
    return PARTITIONS.get(value) or SPLIT_WORDS.get(value.lower()) or split_of(value)


def by_table(
    names: Sequence[str], splits: Mapping[str, str], reading: Reading, source: str, passed_over: PassedOver
) -> tuple[dict[str, str | None], list[str]]:
    """Name → train or val from a table or lists; and notes about the other images, which are counted.

    If no training images are named, all images that nothing names are for training.

    Raises:
        UserError: a value that is not a split.
    """
    roles = roles_of(splits.values(), reading, source)
    found: dict[str, str | None] = {}
    apart = dict.fromkeys((value for value, role in roles.items() if role == "test"), 0)
    rest = None if "train" in roles.values() else "train"
    for name in names:
        value = splits.get(name)
        role = rest if value is None else roles[value]
        if role == "test" and value is not None:
            apart[value] += 1
            add(passed_over, KEPT_APART)
        elif role in ("train", "val"):
            found[name] = role
        else:
            add(passed_over, SKIPPED_BY_ROLE if role == "skip" else NO_SPLIT)
    return found, told_roles(apart, roles, untold=bool(rest and found))


def roles_of(values: Iterable[str], reading: Reading, source: str) -> dict[str, str | None]:
    """The role of each value of a split column: train, val, test or skip; UserError for another value."""
    roles = {value: reading.roles.get(value) or split_value(value) for value in set(values)}
    odd = sorted(value for value, role in roles.items() if role not in (*SPLIT_ROLES, "skip"))
    if odd:
        raise UserError(
            f"shard.source {source}: the split column has the value {odd[0]!r}; say what it is, "
            f"shard.roles: {{{odd[0]}: train}} (or val, test, skip)"
        )
    return roles


def told_roles(apart: Mapping[str, int], roles: Iterable[str], untold: bool) -> list[str]:
    """Notes about a split column.

    Args:
        apart: value that means test → number of images.
        roles: all values.
        untold: whether images without a value are for training.
    """
    notes = [
        f"split {value} ({count:,} images) is kept apart, neither trained nor validated on: "
        f"shard.roles: {{{value!r}: val}} takes it for validation"
        for value, count in apart.items()
    ]
    if untold:
        notes.append(f"images without a split are for training: the files name only {counted(sorted(roles))}")
    return notes


def disagreeing(splits: Mapping[str, str], folders: Mapping[str, str | None]) -> list[str]:
    """Notes about images whose folder contradicts the split in a table or list."""
    torn = [name for name, value in splits.items() if folders.get(name) not in (None, split_value(value))]
    return (
        [f"{len(torn):,} images have another split in a table than their folder's, such as {torn[0]}"]
        if torn
        else []
    )
