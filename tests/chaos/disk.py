"""A full disk in each stage: a tmpfs too small for the run, then room again.

python -m tests.chaos.disk     writes docs/results/disk_full.json; needs root, to mount
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.chaos.project import STAGES, Project, contents, make
from tests.chaos.run import commit

RESULT = Path("docs/results/disk_full.json")
PAGE = 4096
ROOM = "256m"


def may_mount() -> str:
    """Why no tmpfs can be mounted here, or ""."""
    if os.geteuid() != 0:
        return "mounting a tmpfs needs root"
    with tempfile.TemporaryDirectory() as name:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", name], capture_output=True)
        if done.returncode:
            return f"a tmpfs cannot be mounted here: {done.stderr.decode().strip()}"
        subprocess.run(["umount", name], check=True)
    return ""


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[None]:
    """A tmpfs of `size` bytes at `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def used(folder: Path) -> int:
    """Bytes that a folder takes on a tmpfs: whole pages, and one for each entry; links of one file count once."""
    sizes = {path.lstat().st_ino: path.lstat().st_size for path in folder.rglob("*") if path.is_file()}
    return sum(-(-size // PAGE) * PAGE for size in sizes.values())


def fill(base: Project, stage: str, scratch: Path, share: float) -> dict[str, Any]:
    """Run a stage on a disk with `share` of the room that its run takes, then with enough."""
    project = base.without(stage, scratch / f"{stage}-{share}", {})
    peace = base.run_folder(stage)
    assert peace is not None
    size = max(PAGE, int(used(peace) * share) // PAGE * PAGE)
    with small_disk(project.folder / ".runs", size):
        full = project.start(stage, log="full").wait()
        said, looks_whole = project.said("full"), (project.output(stage) / "manifest.json").exists()
        subprocess.run(["mount", "-o", f"remount,size={ROOM}", str(project.folder / ".runs")], check=True)
        again = project.start(stage, log="again").wait()
        torn = project.torn()
    line = next((line for line in said.splitlines() if "no space is left" in line), said.strip()[-300:])
    return {
        "stage": stage,
        "room": size,
        "exit_status": full,
        "said": line.replace(str(project.folder), "…"),
        "clear": full == 1 and "no space is left on the disk" in said and "Traceback" not in said,
        "looks_whole": looks_whole,
        "goes_on": again == 0,
        "identical": stage == "report" or contents(project.output(stage)) == contents(base.output(stage)),
        "temporary_files": torn,
    }


def summary(found: Sequence[dict[str, Any]], command: str) -> dict[str, Any]:
    """What docs/results/disk_full.json says."""
    return {
        "cases": len(found),
        "clear": sum(case["clear"] for case in found),
        "looking_whole": sum(case["looks_whole"] for case in found),
        "identical_after_room": sum(case["goes_on"] and case["identical"] for case in found),
        "commit": commit(),
        "command": command,
        "each": list(found),
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.disk", description=__doc__)
    parser.add_argument(
        "--shares", type=float, nargs="+", default=[0.3, 0.8], help="of the room that is needed"
    )
    given = parser.parse_args()
    reason = may_mount()
    if reason:
        sys.exit(f"skipped: {reason}")
    with tempfile.TemporaryDirectory(prefix="disk", dir="/tmp") as name:
        base = make(Path(name, "base"), {})
        found = [fill(base, stage, Path(name), share) for stage in STAGES for share in given.shares]
    told = summary(found, " ".join(["python -m tests.chaos.disk", *sys.argv[1:]]))
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n")
    good = all(
        case["clear"] and not case["looks_whole"] and case["goes_on"] and case["identical"] for case in found
    )
    sys.exit(0 if good else "not every stage told, or went on: see docs/results/disk_full.json")


if __name__ == "__main__":
    main()
