"""A second place for checkpoints: any URL that fsspec knows (s3://, gs://, abfs://, sftp://, file://).

The run's own folder comes first; a machine without it fetches the newest checkpoint from here. Because an object store has no
rename, `state.json` is written last and removed first: a folder without it is not a checkpoint.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fsspec.core import url_to_fs

from training.loop.checkpoints import KEEP, WRITING, list_checkpoints
from workspace.errors import UserError
from workspace.runs import STATE


@contextmanager
def _opened(url: str) -> Iterator[tuple[Any, str]]:
    """The file system of a URL, and the path in it.

    Raises:
        UserError: no such protocol, or its package is not installed.
    """
    try:
        files, root = url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise UserError(f"compute.checkpoints is {url}: {error}") from error
    files.invalidate_cache()
    yield files, root.rstrip("/")


def _whole(files: Any, root: str) -> list[str]:
    """Names of the complete checkpoints, oldest first."""
    if not files.exists(root):
        return []
    names = [path.rstrip("/").rsplit("/", 1)[-1] for path in files.ls(root, detail=False)]
    found = sorted(name for name in names if name.startswith("step-"))
    return [name for name in found if files.exists(f"{root}/{name}/{STATE}")]


def push(checkpoint: Path, url: str) -> None:
    """Copy a checkpoint's folder below `url`, then remove all but the newest two."""
    with _opened(url) as (files, root):
        target = f"{root}/{checkpoint.name}"
        _remove(files, target)  # by another number of workers perhaps, in other parts
        files.makedirs(target, exist_ok=True)
        names = [path.name for path in sorted(checkpoint.iterdir()) if path.name != STATE]
        for name in (*names, STATE):
            files.put_file(str(checkpoint / name), f"{target}/{name}")
        for old in _whole(files, root)[:-KEEP]:
            _remove(files, f"{root}/{old}")


def _remove(files: Any, target: str) -> None:
    """Remove a checkpoint, if it is there, so that at no moment a part of it looks like a whole one."""
    if files.exists(f"{target}/{STATE}"):
        files.rm_file(f"{target}/{STATE}")
    if files.exists(target):
        files.rm(target, recursive=True)


def pull(url: str, folder: Path) -> None:
    """Copy the newest checkpoint below `url` into `folder`, if it is newer; several workers may do so at once."""
    with _opened(url) as (files, root):
        there = _whole(files, root)
        here = [path.name for path in list_checkpoints(folder)]
        if not there or there[-1] <= max(here, default=""):
            return
        folder.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(dir=folder, prefix=WRITING))
        try:
            for path in files.ls(f"{root}/{there[-1]}", detail=False):
                name = path.rstrip("/").rsplit("/", 1)[-1]
                files.get_file(f"{root}/{there[-1]}/{name}", str(beside / name))
            beside.rename(folder / there[-1])
        except OSError:
            if not (folder / there[-1]).is_dir():  # another worker of this machine was first
                raise
        finally:
            shutil.rmtree(beside, ignore_errors=True)
