"""Artifacts whose tars are not beside their manifest: what is in the folder then, and what is not.

A file `home.txt` in the folder says where the tars are (`shards.images.home`). No manifest lists it, because where they
are changes no result: the manifest, and so the fingerprint, is the same as with the tars beside it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

HOME, HOMED = "home.txt", "image-shards"
"""The file's name, and the kind of artifact that may have it."""
STREAMED = ".tar"
"""Files that `read_manifest` does not hash, because the worker that reads one checks it while reading."""

Entry = TypeVar("Entry")


def beside(folder: Path, kind: str, files: Mapping[str, Entry]) -> Mapping[str, Entry]:
    """Those of an artifact's files that must be in its folder: all, or all but the tars where these have a home."""
    if kind != HOMED or not (folder / HOME).is_file():
        return files
    return {name: entry for name, entry in files.items() if not name.endswith(STREAMED)}
