"""Each image's split and its place in the order, which depend only on the seed and on names.

A source's own validation set is kept. Else `val_fraction` of the images is held out. Unlabelled images are chosen by a hash of
the name, so adding images moves no other. Labelled images are chosen per class (stratified): the k images with the lowest hashes,
where k = floor(n · val_fraction + u) and u in [0, 1) is a hash of the class's name, so that classes of any size add up to the
fraction. Adding an image moves at most one other image of its class, and none of other classes.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import floor

import numpy as np
from numpy.typing import NDArray

from shards.layouts.formats import add
from shards.layouts.listed import SPLIT_NAMES, Codes, Source
from shards.layouts.names import counted
from workspace.exact.seeds import hashed_unit

TRAIN, VAL = map(SPLIT_NAMES.index, ("train", "val"))
UNTRAINED = "of a class without a training image"


def with_splits(source: Source, val_fraction: float, seed: int) -> Source:
    """The source with a split for each image, and without classes that have no training image.

    Validation images of such classes are skipped and counted, because a class without training images cannot be sampled.
    """
    codes = source.images.codes
    held = _held_out(source, codes, val_fraction, seed)
    codes = replace(codes, splits=held.astype(np.int8))
    if source.classes is None:
        return replace(source, images=source.images.recoded(codes))
    labelled = codes.classes >= 0
    counts = [
        np.bincount(codes.classes[labelled & (codes.splits == code)], minlength=len(source.classes))
        for code in (TRAIN, VAL)
    ]
    trained = np.flatnonzero(counts[TRAIN])
    number = np.full(len(source.classes) + 1, -1, np.int32)  # the last place is that of no class, -1
    number[trained] = np.arange(len(trained))
    kept = ~labelled | (number[codes.classes] >= 0)
    passed_over = dict(source.passed_over)
    if not kept.all():
        add(passed_over, UNTRAINED, int((~kept).sum()))
    codes = replace(codes.chosen(kept), classes=number[codes.classes[kept]])
    return replace(
        source,
        images=source.images.only(kept).recoded(codes),
        classes=tuple(source.classes[old] for old in trained.tolist()),
        passed_over=passed_over,
        notes=(*source.notes, *_absent(source.classes, *(count.tolist() for count in counts))),
    )


def _held_out(source: Source, codes: Codes, val_fraction: float, seed: int) -> NDArray[np.bool_]:
    """Which images are for validation. It holds 25 bytes per image."""
    own = codes.splits == VAL
    pool = np.flatnonzero(~own if not own.any() else codes.splits < 0)
    if not val_fraction or not len(pool):
        return own
    names = (source.images[place].name for place in pool.tolist())
    rank = np.fromiter((hashed_unit(seed, "split", name) for name in names), np.float64, len(pool))
    classes = codes.classes[pool] if source.classes is not None else np.full(len(pool), -1, np.int32)
    chosen = (rank < val_fraction) & (classes < 0)
    order = np.lexsort((rank, classes))
    starts = np.searchsorted(classes[order], np.arange(len(source.classes or ()) + 1))
    for cls, name in enumerate(source.classes or ()):
        members = order[starts[cls] : starts[cls + 1]]
        if len(members):
            share = len(members) * val_fraction + hashed_unit(seed, "class", name)
            chosen[members[: min(floor(share), len(members) - 1)]] = True
    found = own.copy()
    found[pool] = chosen if own.any() else _both_filled(chosen, classes, rank)
    return found


def _both_filled(
    chosen: NDArray[np.bool_], classes: NDArray[np.int32], rank: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Moves an image so that a small source has at least one in either split, if possible."""
    if chosen.any() and not chosen.all():
        return chosen
    sizes = np.bincount(classes + 1)
    spare = np.flatnonzero((classes < 0) | (sizes[classes + 1] > 1))
    if len(rank) < 2 or not len(spare):
        return chosen
    moved = int(rank.argmax()) if chosen.any() else int(spare[rank[spare].argmin()])
    chosen[moved] = not chosen[moved]
    return chosen


def _absent(classes: Sequence[str], train: Sequence[int], val: Sequence[int]) -> list[str]:
    """Notes about classes that one of the splits lacks; both give the number of images of each class."""
    notes = []
    untrained = [number for number in range(len(classes)) if not train[number]]
    if untrained:
        lost = sum(val[number] for number in untrained)
        notes.append(
            f"{len(untrained):,} of {len(classes):,} classes have no training image and are left out, with their {lost:,} "
            f"validation images: {counted([classes[number] for number in untrained])}"
        )
    unseen = [number for number in range(len(classes)) if train[number] and not val[number]]
    if unseen:
        shown = counted([classes[number] for number in unseen])
        notes.append(f"{len(unseen):,} of {len(classes):,} classes have no validation image: {shown}")
    return notes
