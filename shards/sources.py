"""Where images come from: each kind of source lists its images without decoding them (`shards/layouts/`).

Bytes are read later, by the processes that make the shards.
"""

from dataclasses import replace
from typing import Literal

from shards.images import MOST_CLASSES
from shards.layouts.class_folder import list_class_folder
from shards.layouts.coco import list_coco
from shards.layouts.folder import list_folder
from shards.layouts.formats import told_passed_over
from shards.layouts.guess import are_shapes, are_tars, guess
from shards.layouts.listed import Source
from shards.layouts.metadata import list_metadata
from shards.layouts.reading import Reading
from shards.layouts.shapes import list_shapes
from shards.layouts.unread import unread
from shards.layouts.walking import Files, files_of
from shards.layouts.webdataset import list_webdataset
from workspace.errors import UserError

Kind = Literal["auto", "folder", "class_folder", "metadata", "coco", "shapes", "webdataset"]
BY_FILES = {
    "folder": list_folder,
    "class_folder": list_class_folder,
    "metadata": list_metadata,
    "coco": list_coco,
}
PLAIN = Reading()


def list_source(kind: Kind, source: str, reading: Reading = PLAIN) -> Source:
    """List the images of a source.

    Args:
        kind: its layout; auto takes the one that fits best.
        source: a folder, a list, a zip, or a glob of tars.
        reading: the user's roles of folders, tables and columns.

    Raises:
        UserError: it is not there, is not laid out as its kind asks, or holds no images.
    """
    found = _listed(kind, source, reading)
    if not found.images:
        raise UserError(f"shard.source {source} holds no images{_seen(found)}; expected kind {found.kind}")
    if len(found.classes or ()) > MOST_CLASSES:
        raise UserError(
            f"shard.source {source} has {len(found.classes or ()):,} classes, expected at most {MOST_CLASSES:,}"
        )
    return found


def _listed(kind: Kind, source: str, reading: Reading) -> Source:
    if kind == "webdataset" or (kind == "auto" and are_tars(source)):
        return replace(list_webdataset(source), kind="webdataset")
    if kind == "shapes" or (kind == "auto" and are_shapes(source)):
        return replace(list_shapes(source), kind="shapes")
    files = files_of(source)
    if kind == "auto":
        return _guessed(files, reading, source)
    found = BY_FILES[kind](files, reading, source)
    notes = () if kind == "metadata" else unread(files, found, kind, reading, source)
    return replace(found, kind=kind, notes=(*found.notes, *notes))


def _guessed(files: Files, reading: Reading, source: str) -> Source:
    made = guess(files, reading, source)
    notes = () if made.kind == "metadata" else unread(files, made.source, made.kind, made.reading, source)
    first = f"{source} is taken for {made.kind}: `python -m shards.inspect {source}` says why"
    return replace(made.source, kind=made.kind, notes=(first, *made.source.notes, *notes))


def _seen(found: Source) -> str:
    return f" ({told})" if (told := told_passed_over(dict(found.passed_over))) else ""
