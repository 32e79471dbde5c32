"""Labels or splits in file names: `cat.0.jpg`, `Abyssinian_12.jpg`, or whatever a regular expression finds."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from shards.layouts.cells import label_text
from shards.layouts.folder import list_folder
from shards.layouts.formats import PassedOver, add
from shards.layouts.listed import ImageList, Source, SourceImage, shown_name
from shards.layouts.metadata import class_names, list_metadata
from shards.layouts.name_labels import SEEN, labels_in_names
from shards.layouts.names import counted
from shards.layouts.reading import Reading
from shards.layouts.split_lists import by_table
from shards.layouts.walking import Files
from workspace.errors import UserError

NO_LABEL = "no label in the name"
FORMS = "cat.0.jpg, Abyssinian_12.jpg, 1000_truck.png"
EXAMPLE = "{label: '^(.+)_[0-9]+'}"


def list_file_names(files: Files, reading: Reading, source: str) -> Source:
    """Images labelled by their file names; with captions and splits if `shard.tables` names files of them.

    `shard.columns` may give a regular expression with one group for the label and one for the split, searched in the file
    name without its folder. Without an expression the label is guessed. Images without a label are skipped and counted.

    Raises:
        UserError: names without labels, an invalid expression, or tables that have labels too.
    """
    plain = replace(reading, columns={})
    base = list_metadata(files, plain, source) if reading.tables else list_folder(files, plain, source)
    if base.classes is not None:
        raise UserError(
            f"shard.source {source}: {counted(list(base.read), 3)} has labels, and shard.kind file_names takes those of the "
            "names; take it out of shard.tables, or set shard.kind: metadata"
        )
    parts = {str(use): _finder(use, expression) for use, expression in reading.columns.items()}
    divided = _divided(base, parts.get("split"), reading, source)
    labels = _labels(divided.images, parts, source)
    return divided if labels is None else _labelled(divided, labels)


def _finder(use: str, expression: str) -> Callable[[str], str | None]:
    """A function from an image's name to the text of the expression's group, or None.

    Raises:
        UserError: not a regular expression with one group, or a use other than label and split.
    """
    if use not in ("label", "split"):
        raise UserError(
            f"shard.columns has {use}, and shard.kind file_names finds label and split in names; expected {EXAMPLE}"
        )
    try:
        pattern = re.compile(expression)
    except re.error as error:
        raise UserError(
            f"shard.columns: {{{use}: {expression!r}}} is not a regular expression ({error}); expected such as {EXAMPLE}"
        ) from None
    if pattern.groups != 1:
        raise UserError(
            f"shard.columns: {{{use}: {expression!r}}} has {pattern.groups} groups; expected one, around the {use}: {EXAMPLE}"
        )

    def find(name: str) -> str | None:
        match = pattern.search(name.rpartition("/")[2])
        return None if match is None or match[1] is None else label_text(match[1], name, "")

    return find


def _divided(base: Source, find: Callable[[str], str | None] | None, reading: Reading, source: str) -> Source:
    """The same, with splits from the names."""
    if find is None:
        return base
    if any(image.split for image in base.images):
        raise UserError(
            f"shard.source {source} is split by its folders or tables, and shard.columns has an expression for the split too; "
            "remove one of the two"
        )
    found = {image.name: split for image in base.images if (split := find(image.name)) is not None}
    if not found:
        raise UserError(
            f"shard.source {source}: shard.columns finds a split in no name, such as {_some(base.images)}"
        )
    passed_over = dict(base.passed_over)
    splits, notes = by_table([image.name for image in base.images], found, reading, source, passed_over)
    images = [replace(image, split=splits[image.name]) for image in base.images if image.name in splits]
    return replace(base, images=ImageList(images), passed_over=passed_over, notes=(*base.notes, *notes))


def _labels(
    images: Sequence[SourceImage], parts: Mapping[str, Callable[[str], str | None]], source: str
) -> Mapping[str, str] | None:
    """Image → label; None if only the split is taken from names."""
    names = [image.name for image in images]
    if "label" in parts:
        found = {name: label for name in names if (label := parts["label"](name)) is not None}
        if len(found) < SEEN * len(names) or not found:
            raise UserError(
                f"shard.source {source}: shard.columns finds a label in {len(found):,} of {len(names):,} names, such as "
                f"{_some(images)}; expected an expression that fits, {EXAMPLE} for cat_001.jpg"
            )
        return found
    guess = labels_in_names(names)
    if guess is not None and guess.doubt not in ("splits", "parts"):
        return guess.labels
    if "split" in parts:
        return None
    raise UserError(
        f"shard.source {source}: no labels found in the file names ({_some(images)}); expected names such as {FORMS}, or "
        f"an expression in shard.columns, {EXAMPLE}"
    )


def _labelled(base: Source, labels: Mapping[str, str]) -> Source:
    classes = class_names(labels.values())
    number = {label: index for index, label in enumerate(classes)}
    passed_over: PassedOver = dict(base.passed_over)
    images = [replace(image, cls=number[labels[image.name]]) for image in base.images if image.name in labels]
    if len(images) < len(base.images):
        add(passed_over, NO_LABEL, len(base.images) - len(images))
    shown = images[0]
    label = classes[shown.cls or 0]
    note = (
        f"labels are from file names ({shown_name(shown.name)}: {label}); shard.kind: folder leaves them out"
    )
    return replace(
        base, images=ImageList(images), classes=classes, passed_over=passed_over, notes=(*base.notes, note)
    )


def _some(images: Sequence[SourceImage]) -> str:
    return counted([shown_name(image.name) for image in images], 3)
