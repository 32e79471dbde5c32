"""A second place for checkpoints: a path, or a URL that `workspace.stores.opening` opens.

The run's own folder comes first; a machine without it fetches the newest checkpoint from here. Because an object store has no
rename, `state.json` is written last and removed first: a folder without it is not a checkpoint.
"""

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from training.loop.checkpoints import KEEP, WRITING, list_checkpoints
from workspace.runs import STATE
from workspace.stores.opening import Entry, MissingError, fetch, listed, put, remove


def _found(url: str) -> dict[str, dict[str, Entry]]:
    """The folders of checkpoints below a URL, oldest first: name → its files."""
    try:
        files = listed(url)
    except MissingError:
        return {}
    found: dict[str, dict[str, Entry]] = {}
    for path, entry in files.items():
        name, _, file = path.partition("/")
        if name.startswith("step-"):
            found.setdefault(name, {})[file] = entry
    return dict(sorted(found.items()))


def _whole(found: Mapping[str, Mapping[str, Entry]]) -> list[str]:
    """The names of those that are complete, oldest first."""
    return [name for name, files in found.items() if STATE in files]


def push(checkpoint: Path, url: str) -> None:
    """Copy a checkpoint's folder below `url`, then remove all but the newest two; StoreError where the store fails."""
    target = f"{url}/{checkpoint.name}"
    remove(target, first=STATE)  # by another number of workers perhaps, in other parts
    names = [path.name for path in sorted(checkpoint.iterdir()) if path.name != STATE]
    for name in (*names, STATE):
        put(checkpoint / name, f"{target}/{name}")
    there = _found(url)
    for old in there.keys() - _whole(there)[-KEEP:]:  # also what a kill has left of one
        remove(f"{url}/{old}", first=STATE)


def pull(url: str, folder: Path) -> None:
    """Copy the newest checkpoint below `url` into `folder`, if it is newer; several workers may do so at once.

    Raises:
        StoreError: the store fails.
    """
    there = _found(url)
    here = [path.name for path in list_checkpoints(folder)]
    newest = max(_whole(there), default="")
    if newest > max(here, default=""):
        _fetch(url, folder / newest, there[newest])


def pull_again(url: str, checkpoint: Path) -> bool:
    """Put the copy below `url` in the place of a damaged checkpoint; False if there is none. StoreError where the store fails."""
    there = _found(url)
    if checkpoint.name not in _whole(there):
        return False
    aside = checkpoint.with_name(f"{WRITING}damaged-{checkpoint.name}")
    shutil.rmtree(aside, ignore_errors=True)
    checkpoint.rename(aside)
    try:
        _fetch(url, checkpoint, there[checkpoint.name])
    finally:
        if not checkpoint.exists():  # the store failed: what can be read of the damaged one stays
            aside.rename(checkpoint)
        shutil.rmtree(aside, ignore_errors=True)
    return True


def _fetch(url: str, checkpoint: Path, files: Mapping[str, Entry]) -> None:
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(dir=checkpoint.parent, prefix=WRITING))
    try:
        for name, entry in files.items():
            fetch(f"{url}/{checkpoint.name}/{name}", beside / name, entry.size)
        beside.rename(checkpoint)
    except OSError:
        if not checkpoint.is_dir():  # another worker of this machine was first
            raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)
