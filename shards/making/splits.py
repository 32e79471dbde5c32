"""Each image's split and its place in the order, which depend only on the seed and on names.

A source's own validation set is kept. Else `val_fraction` of the images is held out. Unlabelled images are chosen by a hash of
the name, so adding images moves no other. Labelled images are chosen per class (stratified): the k images with the lowest hashes,
where k = floor(n · val_fraction + u) and u in [0, 1) is a hash of the class's name, so that classes of any size add up to the
fraction. Adding an image moves at most one other image of its class, and none of other classes.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import floor

from shards.layouts.formats import add
from shards.layouts.listed import Source, SourceImage
from shards.layouts.names import counted
from workspace.exact.seeds import hashed_unit

UNTRAINED = "of a class without a training image"


def with_splits(source: Source, val_fraction: float, seed: int) -> Source:
    """The source with a split for each image, and without classes that have no training image.

    Validation images of such classes are skipped and counted, because a class without training images cannot be sampled.
    """
    val = _held_out(source, val_fraction, seed)
    images = [replace(image, split="val" if image.name in val else "train") for image in source.images]
    if source.classes is None:
        return replace(source, images=images)
    trained = sorted({image.cls for image in images if image.split == "train" and image.cls is not None})
    kept = [image for image in images if image.cls is None or image.cls in set(trained)]
    number = {old: new for new, old in enumerate(trained)}
    passed_over = dict(source.passed_over)
    if len(kept) < len(images):
        add(passed_over, UNTRAINED, len(images) - len(kept))
    return replace(
        source,
        images=[image if image.cls is None else replace(image, cls=number[image.cls]) for image in kept],
        classes=tuple(source.classes[old] for old in trained),
        passed_over=passed_over,
        notes=(*source.notes, *_absent(source.classes, images)),
    )


def _held_out(source: Source, val_fraction: float, seed: int) -> set[str]:
    """Names of the validation images."""
    own = {image.name for image in source.images if image.split == "val"}
    pool = [image for image in source.images if image.split is None or (not own and image.split == "train")]
    if not val_fraction or not pool:
        return own
    rank = {image.name: hashed_unit(seed, "split", image.name) for image in pool}
    groups: dict[int | None, list[str]] = defaultdict(list)
    for image in pool:
        groups[image.cls].append(image.name)
    chosen: set[str] = set()
    for cls, names in groups.items():
        if cls is None or source.classes is None:
            chosen.update(name for name in names if rank[name] < val_fraction)
        else:
            share = len(names) * val_fraction + hashed_unit(seed, "class", source.classes[cls])
            chosen.update(sorted(names, key=rank.__getitem__)[: min(floor(share), len(names) - 1)])
    return own | (chosen if own else _both_filled(chosen, groups, rank))


def _both_filled(
    chosen: set[str], groups: Mapping[int | None, Sequence[str]], rank: Mapping[str, float]
) -> set[str]:
    """Moves an image so that a small source has at least one in either split, if possible."""
    if chosen and len(chosen) < len(rank):
        return chosen
    spare = [name for cls, names in groups.items() if cls is None or len(names) > 1 for name in names]
    if len(rank) < 2 or not spare:
        return chosen
    return chosen - {max(chosen, key=rank.__getitem__)} if chosen else {min(spare, key=rank.__getitem__)}


def _absent(classes: Sequence[str], images: Iterable[SourceImage]) -> list[str]:
    """Notes about classes that one of the splits lacks."""
    counts: dict[str, Counter[int | None]] = {"train": Counter(), "val": Counter()}
    for image in images:
        counts[image.split or "train"][image.cls] += 1
    notes = []
    untrained = [number for number in range(len(classes)) if not counts["train"][number]]
    if untrained:
        lost = sum(counts["val"][number] for number in untrained)
        notes.append(
            f"{len(untrained):,} of {len(classes):,} classes have no training image and are left out, with their {lost:,} "
            f"validation images: {counted([classes[number] for number in untrained])}"
        )
    unseen = [
        number for number in range(len(classes)) if counts["train"][number] and not counts["val"][number]
    ]
    if unseen:
        shown = counted([classes[number] for number in unseen])
        notes.append(f"{len(unseen):,} of {len(classes):,} classes have no validation image: {shown}")
    return notes
