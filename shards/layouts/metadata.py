"""Images with labels, captions or splits in files beside them: metadata.csv, metadata.jsonl, labels.csv, texts, dataset.json …

Formats: Hugging Face's imagefolder, StyleGAN's dataset.json, CelebA's lists, Oxford Flowers' .mat files, and any CSV, list or
Parquet with a column of names. `shard.tables` and `shard.columns` choose where the right one is not obvious.
"""

from collections.abc import Iterable, Mapping, Sequence

from shards.layouts.beside import Beside, read_beside
from shards.layouts.columns import SPOKEN_OF
from shards.layouts.folder import entered, keep_apart
from shards.layouts.formats import PassedOver, add
from shards.layouts.listed import ImageList, Source, SourceImage
from shards.layouts.matlab import read_matlab
from shards.layouts.names import counted
from shards.layouts.reading import (
    SKIPPED_BY_ROLE,
    Reading,
    check_roles,
    divided,
    without_skipped,
)
from shards.layouts.split_lists import by_table, disagreeing
from shards.layouts.walking import Files
from workspace.errors import UserError

NO_LABEL, NO_CAPTION = "no label in a table", "no caption"


def list_metadata(files: Files, reading: Reading, source: str) -> Source:
    """The images that tables name; the others are skipped and counted, and rows without an image are reported as missing.

    Raises:
        UserError: tables name none of the images, or less than half; a value in a split column that is not a split.
    """
    names = without_skipped(files.names, reading)
    beside = read_matlab(files, names, reading) or read_beside(files, names, reading, source)
    check_roles(reading, files.names, [*beside.splits.values(), *beside.lists.splits.values()], source)
    if not (beside.labels or beside.captions or beside.splits or beside.lists.splits):
        raise UserError(_nothing_read(source, beside))
    passed_over = files.passed_over(beside.read)
    if len(names) < len(files.names):
        add(passed_over, SKIPPED_BY_ROLE, len(files.names) - len(names))
    splits, notes = _splits(names, beside, reading, source, passed_over)
    kept = _spoken_of(splits, beside, passed_over, source)
    classes = class_names(beside.labels[name] for name in kept if beside.labels)
    if beside.missing:
        notes.append(
            f"{len(beside.missing):,} rows name images that do not exist: {counted(beside.missing, 3)}"
        )
    return Source(
        ImageList(_images(files, kept, splits, beside, classes)),
        classes or None,
        passed_over=passed_over,
        read=tuple(dict.fromkeys(beside.read)),
        notes=(*notes, *beside.notes, *beside.warnings),
    )


def _images(
    files: Files,
    kept: Iterable[str],
    splits: Mapping[str, str | None],
    beside: Beside,
    classes: Sequence[str],
) -> list[SourceImage]:
    number = {name: index for index, name in enumerate(classes)}
    return [
        SourceImage(
            name,
            files.locate(name),
            splits[name],
            number[beside.labels[name]] if number else None,
            tuple(beside.captions.get(name, ())),
        )
        for name in sorted(kept)
    ]


def _nothing_read(source: str, beside: Beside) -> str:
    told = "; ".join([*beside.notes, *beside.warnings])
    seen = f" ({told})" if told else ""
    return (
        f"shard.source {source} has no labels, captions or splits in files beside its images{seen}; expected metadata.jsonl, "
        "metadata.csv, labels.csv, dataset.json or a text per image, a table named by shard.tables, or kind folder"
    )


def _splits(
    names: Sequence[str], beside: Beside, reading: Reading, source: str, passed_over: PassedOver
) -> tuple[dict[str, str | None], list[str]]:
    """Name → train, val or None; a test split's are counted. A column takes precedence over folders, folders over lists."""
    asked = [*names, *beside.missing]
    if beside.splits:
        found, notes = by_table(asked, beside.splits, reading, source, passed_over)
        return found, notes + disagreeing(beside.splits, _folders(names, reading, source))
    parts = divided(names, reading, source, classes=False)
    if beside.lists.splits and all(part.split is None for part in parts):
        return by_table(asked, beside.lists.splits, reading, source, passed_over)
    found = dict.fromkeys(beside.missing)
    for part in parts:
        if part.split != "test":
            found.update((name, part.split) for name in part.names)
    notes = disagreeing(beside.lists.splits, {name: part.split for part in parts for name in part.names})
    return found, [*entered(parts, names), *keep_apart(parts, passed_over), *notes]


def _folders(names: Sequence[str], reading: Reading, source: str) -> dict[str, str | None]:
    """The split of each image by its folder; None if folders give none."""
    try:
        return {
            name: part.split for part in divided(names, reading, source, classes=False) for name in part.names
        }
    except UserError:
        return {}


def _spoken_of(names: Iterable[str], beside: Beside, passed_over: PassedOver, source: str) -> list[str]:
    """Names with a label, or with a caption if there are only captions."""
    told: Mapping[str, object] = beside.labels or beside.captions
    why = NO_LABEL if beside.labels else NO_CAPTION
    asked = list(names)
    kept = [name for name in asked if told.get(name)] if told else asked
    if len(kept) < SPOKEN_OF * len(asked):
        raise UserError(
            f"shard.source {source}: {' and '.join(dict.fromkeys(beside.read[:3]))} names {len(kept):,} of {len(asked):,} "
            "images, so it may be another set's: name the right file in shard.tables, or set shard.kind: folder"
        )
    if len(kept) < len(asked):
        add(passed_over, why, len(asked) - len(kept))
    return kept


def class_names(labels: Iterable[str]) -> tuple[str, ...]:
    """The distinct labels, sorted by number if all are numbers, else by name."""
    found = set(labels)
    if all(label.isdecimal() for label in found):
        return tuple(sorted(found, key=int))
    return tuple(sorted(found))
