"""Restores outputs that DVC removed before a stage which then made nothing, so that no mistake costs a trained model.

DVC removes a stage's outputs before it starts the command, so a stage that refuses a setting would leave the user without the
finished artifact. (`persist: true` in dvc.yaml would keep it, but switch off DVC's run cache.) Therefore, however the process
ends, a missing output is restored as recorded in dvc.lock: from DVC's cache; from `.runs/kept`, which links files that the cache
does not hold; or from Git's last commit. Only bytes that agree with dvc.lock are restored, so DVC still calls the stage stale.

Only the standard library is imported at the top, because this must work even after an error in our code.
"""

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

KEPT = Path(".runs/kept")
LOCKS = ("dvc.lock", "demo/dvc.lock", "experiments/*/dvc.lock")
STARTED_BY_DVC = "DVC_STAGE"


def keep(output: Path) -> None:
    """Keep a copy of a published folder that DVC does not cache, because the next run may fail after DVC has removed it.

    On a full disk the folder stays published; a message says that no copy is kept.
    """
    from workspace.progress import say
    from workspace.runs import publish

    if STARTED_BY_DVC not in os.environ or output.is_absolute():
        return
    try:
        publish(output, KEPT / output, link=True)
    except OSError as error:
        say(f"{output}: no copy is kept in case the next run fails ({error.strerror})")


def put_back(command: Sequence[str]) -> None:
    """Restore the missing outputs of a stage's command line that dvc.lock records.

    Args:
        command: its words; the outputs follow `--out` and `--metrics`.
    """
    if STARTED_BY_DVC not in os.environ:
        return
    outputs = [Path(value) for word, value in pairwise(command) if word in ("--out", "--metrics")]
    missing = [path for path in outputs if not path.exists() and not path.is_absolute()]
    found = {path: list(_locked(path)) for path in missing}
    known = [path for path in missing if found[path]]
    back = [path for path in known if _put_back(path, found[path])]
    _say(back, "restored as it was before DVC removed it")
    _say(
        [path for path in known if path not in back],
        "removed by DVC, and no copy is left; `dvc repro` makes it again",
    )


def _say(paths: Sequence[Path], text: str) -> None:
    from workspace.progress import say

    if paths:
        say(f"{', '.join(map(str, paths))}: {text}")


def _locked(output: Path) -> Iterator[str]:
    """An output's hashes in the lock files."""
    import yaml

    from workspace.quick_yaml import quick_yaml

    for lock in (path for pattern in LOCKS for path in sorted(Path().glob(pattern))):
        with suppress(yaml.YAMLError, KeyError, TypeError, AttributeError):
            stages = quick_yaml(lock.read_bytes())["stages"]
            for stage in stages.values():
                yield from (out["md5"] for out in stage.get("outs", ()) if Path(out["path"]) == output)


def _put_back(output: Path, hashes: Sequence[str]) -> bool:
    """Try each place that may have a copy; returns whether an intact one was found and restored."""
    output.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{output.name}.back-"
    for torn in output.parent.glob(f"{prefix}*"):  # left by a killed process
        shutil.rmtree(torn)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=prefix) as folder:
        for number, copy in enumerate((_from_kept, _from_git, _from_cache)):
            made = Path(folder) / str(number)
            with suppress(OSError, subprocess.SubprocessError):
                copy(output, made)
            if made.is_dir() and folder_hash(made) in hashes:
                made.rename(output)
                return True
    return False


def _from_kept(output: Path, to: Path) -> None:
    from workspace.links import link_or_copy

    shutil.copytree(KEPT / output, to, copy_function=link_or_copy)


def _from_git(output: Path, to: Path) -> None:
    """Restore metrics, which are in Git and not in DVC's cache."""
    archive = subprocess.run(["git", "archive", "HEAD", str(output)], capture_output=True, check=True)
    above = to.with_name(f"{to.name}-git")
    above.mkdir()
    subprocess.run(["tar", "-x", "-C", str(above)], input=archive.stdout, capture_output=True, check=True)
    (above / output).rename(to)


def _from_cache(output: Path, to: Path) -> None:
    """Restore by `dvc get`, which needs no lock; `dvc checkout` would wait for the command that started this process."""
    here = importlib.util.find_spec("dvc") is not None
    program = [sys.executable, "-m", "dvc"] if here else ["dvc"]
    subprocess.run(
        [*program, "get", "--quiet", ".", str(output), "--out", str(to)], capture_output=True, check=True
    )


def folder_hash(folder: Path) -> str:
    """DVC's hash of a folder's content: MD5 of the JSON list of its files' MD5 sums and names, plus `.dir`."""
    entries = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        entries.append({"md5": md5, "relpath": path.relative_to(folder).as_posix()})
    text = json.dumps(sorted(entries, key=lambda entry: entry["relpath"]), sort_keys=True)
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest() + ".dir"
