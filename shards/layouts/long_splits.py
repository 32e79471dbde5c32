"""The splits of a list too large for memory: by a column's values, or by folders, one example per folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from shards.layouts.folder import entered, keep_apart
from shards.layouts.formats import PassedOver, add
from shards.layouts.image_table import Texts
from shards.layouts.reading import (
    KEPT_APART,
    SKIPPED_BY_ROLE,
    Part,
    Reading,
    check_roles,
    divided,
    without_skipped,
)
from shards.layouts.split_lists import NO_SPLIT, roles_of, told_roles

APART, OUT, UNTOLD = -2, -3, -4
"""Codes of images that are left out: of a test split, by their role, without a split."""
MEANING = {"train": 0, "val": 1, "test": APART, "skip": OUT}


@dataclass(frozen=True)
class LongImages:
    """The images of a list, each once, ordered by name.

    Attributes:
        names: their names.
        captions: their captions, with a line end after each; or None.
        rows: int64 [count], the place of each in both.
        folders: int32 [count], codes.
        labels: int32 [count], codes, -1 is none.
        splits: int32 [count], the same.
    """

    names: Texts
    captions: Texts | None
    rows: NDArray[np.int64]
    folders: NDArray[np.int32]
    labels: NDArray[np.int32]
    splits: NDArray[np.int32]


def splits_of(
    images: LongImages,
    prefixes: Sequence[str],
    values: Sequence[str],
    reading: Reading,
    source: str,
    passed_over: PassedOver,
) -> tuple[NDArray[np.int32], list[str]]:
    """The split of each image: a place in `SPLIT_NAMES`, -1 for none, or why it is left out; and notes.

    Args:
        images: all images.
        prefixes: path of each folder, "" or "a/b/".
        values: those of the split column.
        reading: roles.
        source: for errors.
        passed_over: counts images that are left out.

    Raises:
        UserError: a value that is not a split, or folders whose roles are unclear.
    """
    examples = [f"{prefix}image" for prefix in prefixes]
    check_roles(reading, examples, values, source)
    stay = set(without_skipped(examples, reading))
    there = np.asarray([name in stay for name in examples], np.bool_)[images.folders]
    if not there.all():
        add(passed_over, SKIPPED_BY_ROLE, int((~there).sum()))
    if values:
        shares, notes = _by_column(images, there, values, reading, source, passed_over)
    else:
        shares, notes = _by_folder(images, there, examples, stay, reading, source, passed_over)
    return np.where(there, shares, OUT), notes


def _by_column(
    images: LongImages,
    there: NDArray[np.bool_],
    values: Sequence[str],
    reading: Reading,
    source: str,
    passed_over: PassedOver,
) -> tuple[NDArray[np.int32], list[str]]:
    roles = roles_of(values, reading, source)
    rest = UNTOLD if "train" in roles.values() else MEANING["train"]
    codes = np.asarray([*(MEANING[roles[value] or "skip"] for value in values), rest], np.int32)
    shares = codes[images.splits]
    for code, why in ((APART, KEPT_APART), (OUT, SKIPPED_BY_ROLE), (UNTOLD, NO_SPLIT)):
        if count := int((shares[there] == code).sum()):
            add(passed_over, why, count)
    counts = np.bincount(images.splits[there] + 1, minlength=len(codes)).tolist()[1:]
    apart = {value: count for value, count in zip(values, counts, strict=True) if roles[value] == "test"}
    untold = rest == MEANING["train"] and bool((shares[there] >= 0).any())
    return shares, told_roles(apart, roles, untold)


def _by_folder(
    images: LongImages,
    there: NDArray[np.bool_],
    examples: Sequence[str],
    stay: set[str],
    reading: Reading,
    source: str,
    passed_over: PassedOver,
) -> tuple[NDArray[np.int32], list[str]]:
    counts = np.bincount(images.folders[there], minlength=len(examples))
    place = {name: code for code, name in enumerate(examples)}
    parts, codes = list[Part](), np.full(len(examples), -1, np.int32)
    for part in divided(sorted(stay), reading, source, classes=False):
        held = [place[name] for name in part.names]
        codes[held] = -1 if part.split is None else MEANING[part.split]
        # only the number of names is used
        number = cast("Sequence[str]", range(int(counts[held].sum())))
        parts.append(Part(part.prefix, part.split, number, part.cls))
    return codes[images.folders], [*entered(parts, examples), *keep_apart(parts, passed_over)]
