"""Sources of images: each kind lists its images without decoding them (`shards/layouts/`).

The images' bytes are read later, by the processes that write the shards.
"""

from dataclasses import replace
from pathlib import Path
from typing import Literal

from shards.images import MOST_CLASSES
from shards.layouts.class_folder import list_class_folder
from shards.layouts.class_names import told_classes, with_class_names
from shards.layouts.coco import list_coco
from shards.layouts.file_names import list_file_names
from shards.layouts.folder import list_folder
from shards.layouts.formats import LINK_TO_NOTHING, told_passed_over
from shards.layouts.guess import Guess, are_shapes, are_tars, guess
from shards.layouts.listed import Source, shown_name
from shards.layouts.long_list import is_long, list_long
from shards.layouts.metadata import list_metadata
from shards.layouts.name_labels import labels_in_names, masks_among, told_names
from shards.layouts.names import counted
from shards.layouts.reading import FOLDER, Reading
from shards.layouts.remote import at_home, remote_of
from shards.layouts.shapes import list_shapes
from shards.layouts.tables import TO_FILES
from shards.layouts.tars import tars_of
from shards.layouts.unread import unread
from shards.layouts.walking import Files, files_of
from shards.layouts.webdataset import list_webdataset, names_beside
from workspace.errors import UserError
from workspace.stores.addresses import is_url, local_path
from workspace.stores.cache import USUAL, Cache

Kind = Literal["auto", "folder", "class_folder", "file_names", "metadata", "coco", "shapes", "webdataset"]
BY_FILES = {
    "folder": list_folder,
    "class_folder": list_class_folder,
    "file_names": list_file_names,
    "metadata": list_metadata,
    "coco": list_coco,
}
BY_TABLES = ("metadata", "class_folder", "file_names")
"""Kinds that read the files in `shard.tables`."""
UNLABELLED = ("folder", "metadata")
"""Kinds that may leave labels in file names unread."""
PLAIN = Reading()
HELD_ELSEWHERE = {
    (".parquet", ".arrow"): (
        f"a Parquet or Arrow file that holds the images themselves is written to files first: {TO_FILES}"
    ),
    (".npy", ".npz", ".h5", ".hdf5", ".mat", ".pkl", ".pt", ".pth"): (
        "an array that holds the images is written to files first: "
        "`for i, x in enumerate(images): Image.fromarray(x).save(f'{i:06}.png')`, by folders of classes if it has some"
    ),
    (".tfrecord", ".mdb", ".rec", ".beton", ".msgpack", ".lmdb"): (
        "images in another program's records are written to files first, or to WebDataset's tars"
    ),
    (".mp4", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg"): (
        "a video's frames are written to files first: `ffmpeg -i VIDEO -vf fps=1 FOLDER/%06d.png`"
    ),
    (".gz", ".bz2", ".xz", ".zst"): "a packed file is unpacked first",
    (
        LINK_TO_NOTHING,
        ".dvc",
    ): "the pictures are elsewhere: `dvc pull`, `git annex get .`, or mount their disk",
}
"""Extensions, or reasons, of files that are passed over → what to do if a source has no pictures but them."""


def list_source(kind: Kind, source: str, reading: Reading = PLAIN, cache: Cache = USUAL) -> Source:
    """List the images of a source.

    Args:
        kind: its layout; auto takes the best fit.
        source: a folder, a list, a zip, or a glob of tars; a path or a URL.
        reading: the user's roles of folders, tables and columns.
        cache: where tars and zips of a URL are kept while they are read.

    Raises:
        UserError: it does not exist, does not follow its kind's layout, or holds no images.
    """
    return checked(_listed(kind, at_home(source), reading, cache), source)


def checked(found: Source, source: str) -> Source:
    """The same source; UserError if it holds no images, or more classes than can be stored."""
    if not found.images:
        raise UserError(
            f"shard.source {source} holds no images{_seen(found)}; expected pictures for kind {found.kind} "
            f"({_instead(found)})"
        )
    if len(found.classes or ()) > MOST_CLASSES:
        raise UserError(
            f"shard.source {source} has {len(found.classes or ()):,} classes, expected at most {MOST_CLASSES:,}"
        )
    return found


def _listed(kind: Kind, source: str, reading: Reading, cache: Cache) -> Source:
    _check_settings(kind, reading)
    if kind == "auto":
        made = guessed(source, reading, cache)
        first = f"{source} is taken for {made.kind}: `python -m shards.inspect {source}` says why"
        return replace(made.source, notes=(first, *made.source.notes))
    if kind == "webdataset":
        return replace(list_webdataset(source, reading, cache), kind=kind)
    if kind == "shapes":
        return replace(list_shapes(source), kind=kind)
    if is_long(kind, source, reading):
        found = list_long(kind, source, reading)
        return replace(found, kind=kind, notes=(*found.notes, *told_classes(found.classes or ())))
    files = files_of(source, cache)
    return _with_unread(files, BY_FILES[kind](files, reading, source), kind, reading, source)


def _check_settings(kind: Kind, reading: Reading) -> None:
    """UserError if the kind ignores a setting that was given, because the user expects an effect."""
    if reading.tars is not None and kind not in ("auto", "webdataset"):
        raise UserError(
            f"shard.tars is {reading.tars}, and shard.kind {kind} reads no tars; expected webdataset, or null"
        )
    if reading.tables and kind not in ("auto", *BY_TABLES):
        raise UserError(
            f"shard.tables is {list(reading.tables)}, and shard.kind {kind} reads no tables; expected metadata for labels, "
            "class_folder or file_names for captions and splits, or null"
        )
    inner = reading.columns == {"label": FOLDER}
    unused = ("folder", "coco", "shapes", *(() if reading.tables or inner else ("class_folder",)))
    if reading.columns and kind in unused:
        raise UserError(
            f"shard.columns is {dict(reading.columns)}, and shard.kind {kind} reads no columns; expected metadata, webdataset or "
            "file_names, or {}"
        )


def guessed(source: str, reading: Reading = PLAIN, cache: Cache = USUAL) -> Guess:
    """The guessed layout of a source, and why the others were rejected.

    Raises:
        UserError: it does not exist, or the roles of its folders are unclear.
    """
    source = at_home(source)
    for kind, fits in (
        ("webdataset", reading.tars is not None or are_tars(source)),
        ("shapes", are_shapes(source)),
    ):
        if fits:
            return Guess(kind, _listed(kind, source, reading, cache), reading, {})  # type: ignore[arg-type]
    files = files_of(source, cache)
    made = guess(files, reading, source)
    return replace(made, source=_with_unread(files, made.source, made.kind, made.reading, source))


def _with_unread(files: Files, found: Source, kind: str, reading: Reading, source: str) -> Source:
    zips = [name for name in files.others if name.lower().endswith(".zip")]
    if zips and not found.images:
        raise UserError(
            f"shard.source {source} holds no images, only {counted(zips, 3)}: unpack it, or name it, shard.source: "
            f"{source}/{zips[0]}"
        )
    found = with_class_names(files, found)
    notes = (*found.notes, *unread(files, found, kind, reading, source), *told_classes(found.classes or ()))
    notes = (*notes, *_by_names(kind, found))
    if files.empty and found.images:
        notes = (*notes, f"empty folders: {counted(list(files.empty))}")
    return replace(found, kind=kind, notes=notes)


def _by_names(kind: str, found: Source) -> list[str]:
    """Notes about unread labels in file names, and about masks taken for pictures."""
    names = [image.name for image in found.images]
    told = []
    if masks := masks_among(names):
        told.append(
            f"{len(masks):,} files are named like masks of other images and taken for images, such as {shown_name(masks[0])}: to "
            "leave them out, make shard.source a text list of the photographs"
        )
    if kind in UNLABELLED and found.classes is None and (line := told_names(labels_in_names(names))):
        told.append(line)
    return told


def _instead(found: Source) -> str:
    """What to do about a source without pictures, by the files that it has."""
    if any("(.tar)" in why for why in found.passed_over):
        return (
            "tars within a tar, as ImageNet has them: unpack the outer one, then each into a folder of its class, "
            "`for t in *.tar; do mkdir ${t%.tar} && tar xf $t -C ${t%.tar}; done`"
        )
    suffixes = {why.partition(":")[0] for why in found.passed_over}
    for those, told in HELD_ELSEWHERE.items():
        if suffixes.intersection(those):
            return told
    return "a zip, tars or a list of paths are named themselves"


def _seen(found: Source) -> str:
    return f" ({told})" if (told := told_passed_over(dict(found.passed_over))) else ""


def files_read(kind: Kind, source: str, tars: str | None) -> list[Path]:
    """What a run of this source reads here, for its fingerprint; see `list_source`."""
    if is_url(source):
        return [path] if (path := local_path(source)) is not None else []
    whole = Path(source).exists() and (tars is None or remote_of(source) is not None)
    if kind not in ("auto", "webdataset") or whole:
        return [Path(source)]
    found = tars_of(source, tars)
    return [*found, *names_beside(source, found)]
