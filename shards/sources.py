"""Where images come from: each kind of source lists its images without decoding them (`shards/layouts/`).

Bytes are read later, by the processes that make the shards.
"""

from typing import Literal

from shards.images import MOST_CLASSES
from shards.layouts.class_folder import list_class_folder
from shards.layouts.coco import list_coco
from shards.layouts.folder import list_folder
from shards.layouts.formats import told_passed_over
from shards.layouts.listed import Source
from shards.layouts.shapes import list_shapes
from shards.layouts.webdataset import list_webdataset
from workspace.errors import UserError

Kind = Literal["folder", "class_folder", "coco", "shapes", "webdataset"]


def list_source(kind: Kind, source: str) -> Source:
    """List the images of a source.

    Raises:
        UserError: it is not there, is not laid out as its kind asks, or holds no images.
    """
    reader = {
        "folder": list_folder,
        "class_folder": list_class_folder,
        "coco": list_coco,
        "shapes": list_shapes,
        "webdataset": list_webdataset,
    }[kind]
    found = reader(source)
    if not found.images:
        raise UserError(f"shard.source {source} holds no images{_seen(found)}; expected kind {kind}")
    if len(found.classes or ()) > MOST_CLASSES:
        raise UserError(
            f"shard.source {source} has {len(found.classes or ()):,} classes, expected at most {MOST_CLASSES:,}"
        )
    return found


def _seen(found: Source) -> str:
    return f" ({told})" if (told := told_passed_over(dict(found.passed_over))) else ""
