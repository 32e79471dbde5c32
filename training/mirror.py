"""A second place for checkpoints: a path, or a URL that `workspace.stores.opening` opens.

The run's own folder comes first; a machine without it fetches the newest checkpoint from here. Because an object store has no
rename, `state.json` is written last and removed first: a folder without it is not a checkpoint.
"""

import shutil
import tempfile
from pathlib import Path

from training.loop.checkpoints import KEEP, WRITING, list_checkpoints
from workspace.runs import STATE
from workspace.stores.opening import Entry, MissingError, fetch, listed, put, remove


def _whole(url: str) -> dict[str, dict[str, Entry]]:
    """The complete checkpoints below a URL, oldest first: name → its files."""
    try:
        files = listed(url)
    except MissingError:
        return {}
    found: dict[str, dict[str, Entry]] = {}
    for path, entry in files.items():
        name, _, file = path.partition("/")
        if name.startswith("step-"):
            found.setdefault(name, {})[file] = entry
    return {name: own for name, own in sorted(found.items()) if STATE in own}


def push(checkpoint: Path, url: str) -> None:
    """Copy a checkpoint's folder below `url`, then remove all but the newest two; StoreError where the store fails."""
    target = f"{url}/{checkpoint.name}"
    remove(target, first=STATE)  # by another number of workers perhaps, in other parts
    names = [path.name for path in sorted(checkpoint.iterdir()) if path.name != STATE]
    for name in (*names, STATE):
        put(checkpoint / name, f"{target}/{name}")
    for old in list(_whole(url))[:-KEEP]:
        remove(f"{url}/{old}", first=STATE)


def pull(url: str, folder: Path) -> None:
    """Copy the newest checkpoint below `url` into `folder`, if it is newer; several workers may do so at once.

    Raises:
        StoreError: the store fails.
    """
    there = _whole(url)
    here = [path.name for path in list_checkpoints(folder)]
    newest = max(there, default="")
    if newest <= max(here, default=""):
        return
    folder.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(dir=folder, prefix=WRITING))
    try:
        for name, entry in there[newest].items():
            fetch(f"{url}/{newest}/{name}", beside / name, entry.size)
        beside.rename(folder / newest)
    except OSError:
        if not (folder / newest).is_dir():  # another worker of this machine was first
            raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)
