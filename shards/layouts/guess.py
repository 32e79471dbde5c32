"""Guesses a source's layout: tries each, takes the most specific one that fits, and says why the others do not."""

import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from shards.layouts.class_folder import LooseImagesError, folders_within, list_class_folder
from shards.layouts.coco import caption_files, list_coco
from shards.layouts.file_names import list_file_names
from shards.layouts.folder import list_folder
from shards.layouts.listed import Source
from shards.layouts.metadata import list_metadata
from shards.layouts.name_labels import NameLabels, labels_in_names
from shards.layouts.names import PARTS, PICTURES, counted, stem_of
from shards.layouts.reading import FOLDER, Reading, UnknownRoleError
from shards.layouts.remote import remote_of
from shards.layouts.tars import TARS
from shards.layouts.texts import TEXTS, texts_beside
from shards.layouts.walking import Files, walk
from workspace.errors import UserError
from workspace.exact.manifest import NAME, kind_of
from workspace.stores.opening import StoreError

DATE = re.compile(r"(19|20)\d\d([-_.]?\d\d){0,2}")
HASH = re.compile(r"[0-9a-f]{8,}")
CHUNKS = (100, 1000, 10000)
"""Images per numbered folder: FFHQ and StyleGAN use 1,000."""


@dataclass(frozen=True)
class Guess:
    """The layout found for a source.

    Attributes:
        kind: the layout.
        source: what that layout read.
        reading: the reading it used, with any tables found.
        others: each other layout → why it was rejected.
    """

    kind: str
    source: Source
    reading: Reading
    others: Mapping[str, str]


def are_tars(source: str) -> bool:
    """Whether a source is tars: a single tar, a glob or braces, or a folder with nothing else to read."""
    if (remote := remote_of(source)) is not None:
        return remote.are_tars
    if source.lower().endswith(TARS):
        return True
    path = Path(source)
    if not path.is_dir():
        return False
    inside = [name for folder in (path, *path.glob("*/")) for name in os.listdir(folder)]
    return any(name.lower().endswith(TARS) for name in inside) and not walk(path).names


def are_shapes(source: str) -> bool:
    """Whether a source is an artifact of draw_shapes."""
    if not (Path(source) / NAME).is_file():
        return False
    try:
        return kind_of(Path(source)) == "shapes"
    except UserError:
        return False  # a manifest of the user's own


def guess(files: Files, reading: Reading, source: str) -> Guess:
    """The layout of a folder, list or zip.

    Raises:
        UserError: the layout is clear but a folder's role is not; the message names the setting.
    """
    others: dict[str, str] = {}
    if caption_files(files):
        return Guess("coco", list_coco(files, reading, source), reading, others)
    others["coco"] = "no annotations/captions_*.json"
    beside = _metadata(files, reading, source, others)
    classes = _class_folder(files, reading, beside, source, others)
    more = [] if classes is None or beside is None else _more(classes, beside)
    if more and beside is not None:
        both = replace(reading, tables=_tables(files, beside))
        others["metadata"] = f"folders are classes; {' and '.join(more)} are taken too, by shard.tables"
        return Guess("class_folder", list_class_folder(files, both, source), both, others)
    if classes is not None:
        if beside is not None:
            others["metadata"] = f"folders are classes; {counted(list(beside.read), 3)} could name them too"
        return Guess("class_folder", classes, reading, others)
    if beside is not None and beside.classes is not None:
        return Guess("metadata", beside, reading, others)
    return _unlabelled(files, reading, beside, source, others)


def _unlabelled(
    files: Files, reading: Reading, beside: Source | None, source: str, others: dict[str, str]
) -> Guess:
    """The layout of a source without class folders and label tables: its file names may give the class."""
    plain = list_folder(files, reading, source) if beside is None else beside
    names = labels_in_names(image.name for image in plain.images)
    if names is None or names.doubt:
        others["file_names"] = "no labels found in them" if names is None else _unsure(names)
        return Guess("folder" if beside is None else "metadata", plain, reading, others)
    if beside is not None:
        reading = replace(reading, tables=_tables(files, beside))
    return Guess("file_names", list_file_names(files, reading, source), reading, others)


def _unsure(names: NameLabels) -> str:
    return f"{names.counts()} may be labels, but that is not certain"


def _class_folder(
    files: Files, reading: Reading, beside: Source | None, source: str, others: dict[str, str]
) -> Source | None:
    try:
        found = _with_roles_of_lists(files, reading, beside, source)
    except (LooseImagesError, UnknownRoleError) as error:
        others["class_folder"] = str(error)
        return None
    why = _no_classes(found, source)
    if why:
        others["class_folder"] = why
        return None
    return found


def _with_roles_of_lists(files: Files, reading: Reading, beside: Source | None, source: str) -> Source:
    """Read as class folders; roles may also name splits in tables."""
    try:
        return list_class_folder(files, reading, source)
    except UnknownRoleError:
        if beside is None:
            raise
        return list_class_folder(files, replace(reading, tables=_tables(files, beside)), source)


def _metadata(files: Files, reading: Reading, source: str, others: dict[str, str]) -> Source | None:
    try:
        return list_metadata(files, reading, source)
    except StoreError:
        raise  # what a store did not give must not be taken for absent
    except UserError as error:
        if reading.tables or reading.columns:
            raise
        others["metadata"] = str(error)
        return None


def _more(classes: Source, beside: Source) -> list[str]:
    """Notes about what files beside class folders add to them."""
    split = any(image.split for image in classes.images) or not any(image.split for image in beside.images)
    captions = any(image.captions for image in beside.images)
    return [name for name, there in (("captions", captions), ("splits", not split)) if there]


def _tables(files: Files, beside: Source) -> tuple[str, ...]:
    """The files read, in the form of `shard.tables`."""
    texts = texts_beside(files, files.names)
    named = [name for name in beside.read if name not in texts]
    named = list(dict.fromkeys(named))
    return (*named, TEXTS) if any(name in texts for name in beside.read) else tuple(named)


def _no_classes(found: Source, source: str) -> str | None:
    """Why folders are not classes; None if they may be.

    Raises:
        UserError: the folders are parts of one data set, such as pictures and masks.
    """
    classes = found.classes or ()
    if len(classes) < 2:
        return f"one folder of images ({classes[0]})" if classes else "no class folders"
    if all(name.lower() in PARTS for name in classes):
        raise UserError(
            f"shard.source {source}: the folders {counted(sorted(classes))} look like parts of one data set, not like classes; "
            f"leave out what is not a photograph, shard.roles: {{{_part_to_skip(classes)}: skip}}, or set shard.kind"
        )
    _check_inner(found, source)
    stems: dict[str, list[str]] = defaultdict(list)
    for image in found.images:
        if image.cls is not None:
            stems[classes[image.cls]].append(stem_of(image.name))
    if all(DATE.fullmatch(name) for name in classes):
        return f"its folders are dates ({counted(sorted(classes), 3)})"
    if _are_chunks(stems):
        return f"its folders are numbered after their images ({counted(sorted(classes), 3)})"
    return None


def _check_inner(found: Source, source: str) -> None:
    """UserError if all class folders hold the same folders (`fold1/{cat,dog}`, `fold2/{cat,dog}`), so either may be classes."""
    classes = found.classes or ()
    inner = folders_within(
        {image.name: classes[image.cls] for image in found.images if image.cls is not None}
    )
    same = next(iter(inner.values()), set())
    if len(inner) == len(classes) and len(same) > 1 and all(names == same for names in inner.values()):
        tops, inside = counted(sorted(classes), 3), counted(sorted(same), 3)
        raise UserError(
            f"shard.source {source}: the folders {tops} each hold the folders {inside}, so either may be the classes; set "
            f"shard.kind: class_folder for the first, and shard.columns: {{label: {FOLDER}}} too for the second"
        )


def _part_to_skip(classes: Sequence[str]) -> str:
    return next((name for name in sorted(classes) if name.lower() not in PICTURES), sorted(classes)[0])


def _are_chunks(stems: Mapping[str, Sequence[str]]) -> bool:
    """Whether each folder holds a range of image numbers, or the images whose hashes share a prefix."""
    if all(HASH.fullmatch(stem) and stem.startswith(name) for name, own in stems.items() for stem in own):
        return True
    if not all(name.isdecimal() for name in stems):
        return False
    numbered = [(int(name), _number(stem)) for name, own in stems.items() for stem in own]
    return any(
        all(
            number is not None and folder in (number // size, number // size * size)
            for folder, number in numbered
        )
        for size in CHUNKS
    )


def _number(stem: str) -> int | None:
    """The last number in a file's name."""
    found = re.findall(r"\d+", stem)
    return int(found[-1]) if found else None
