"""Puts image shards at a URL, where any machine reads them: HOME/SET/ with tars, index, manifest (see `shards.images.home`)."""

from collections.abc import Callable
from pathlib import Path

from shards.images.home import set_name
from workspace.exact.homes import STREAMED
from workspace.exact.manifest import NAME, Manifest, verify_file
from workspace.progress import track
from workspace.stores.opening import MissingError, entry_of, put


def push(folder: Path, manifest: Manifest, home: str, tar: Callable[[str], Path], again: bool = False) -> str:
    """Put every file of a set at a URL, the manifest last; returns the URL of the set.

    A file that is there with its size is not put again, so a push that was stopped continues. Files are compared with the
    manifest before they leave.

    Args:
        folder: of the artifact.
        manifest: its manifest.
        home: URL of the home.
        tar: a tar's name → its file.
        again: put also what is there already.

    Raises:
        UserError: a file was changed, or the store fails.
    """
    url = f"{home.rstrip('/')}/{set_name(folder)}"
    for name, entry in track(list(manifest.files.items()), f"to {home}", "files"):
        if again or _size(f"{url}/{name}") != entry.bytes:
            path = tar(name) if name.endswith(STREAMED) else folder / name
            verify_file(folder, manifest, name, path)
            put(path, f"{url}/{name}")
    put(folder / NAME, f"{url}/{NAME}")
    return url


def _size(url: str) -> int | None:
    try:
        return entry_of(url).size
    except MissingError:
        return None
