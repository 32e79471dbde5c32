"""What DVC does with a set of many tars, beside their manifest and in a home: `python -m benchmarks.dvc_at_size --tars 80000`.

A repository of two stages, one that wrote the set and one that reads it, both committed. Then `dvc status` and `dvc repro`, which
have nothing to do, are run under `strace`, and without it for their processor time. Prints one JSON object.
"""

import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.large_sets import make_large_set
from shards.images import ImageShards
from shards.making.settling import settle
from workspace.commands import parser_of

STAGES = """stages:
  shard: {cmd: 'true', outs: [artifacts/shards]}
  train: {cmd: 'true', deps: [artifacts/shards], outs: [artifacts/model]}
"""
LOOKED = re.compile(r"[0-9]{6}\.tar")
"""A tar's name in a line of strace."""


def measured(folder: Path, tars: int, home: bool) -> dict[str, Any]:
    """Make the repository, commit it, and measure the commands that find nothing to do."""
    (folder / "dvc.yaml").write_text(STAGES, encoding="utf-8")
    (folder / ".gitignore").write_text("/artifacts\n", encoding="utf-8")
    made = make_large_set(folder / "artifacts" / "shards", tars, 1)
    if home:
        work = shutil.copytree(made, folder / "work", copy_function=os.symlink)
        os.chdir(folder)
        settle(made, ImageShards.open(made).manifest, "artifacts/tars", work)
        shutil.rmtree(work)
    (folder / "artifacts" / "model").mkdir()
    _run(folder, ["git", "init", "-q"])
    _dvc(folder, "init", "-q")
    found = {"commit_seconds": round(_seconds(folder, "commit", "-f", "-q"), 1)}
    for name in ("status", "repro"):
        found |= {f"{name}_seconds": round(_seconds(folder, name), 2), f"{name}_tars": _looked(folder, name)}
    return found


def _run(folder: Path, command: Sequence[str]) -> None:
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)


def _dvc(folder: Path, *words: str) -> None:
    _run(folder, [sys.executable, "-m", "dvc", *words])


def _seconds(folder: Path, *words: str) -> float:
    """Processor seconds of a DVC command, its children included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    _dvc(folder, *words)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _looked(folder: Path, *words: str) -> int:
    """How many system calls of a DVC command name a tar."""
    log = folder / "strace"
    trace = ["strace", "-f", "-qq", "-e", "trace=%file", "-o", str(log)]
    _run(folder, [*trace, sys.executable, "-m", "dvc", *words])
    with log.open(encoding="utf-8", errors="replace") as lines:
        return sum(LOOKED.search(line) is not None for line in lines)


def main() -> None:
    """The command line."""
    parser = parser_of("benchmarks.dvc_at_size", __doc__)
    parser.add_argument("--tars", type=int, default=80_000)
    tars, found = parser.parse_args().tars, {}
    for name in ("home", "beside"):
        with tempfile.TemporaryDirectory() as folder:
            found[name] = measured(Path(folder), tars, name == "home")
    sys.stdout.write(json.dumps({"tars": tars, **found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
