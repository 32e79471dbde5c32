"""Row 14: `python -m shards.inspect` on 100,000 files: class folders, and pictures with a text beside each.

Processor time of a process of its own, imports and listing included; nothing is decoded, 200 headers are read. It has one thread,
so on a quiet machine its wall-clock time is the same.
"""

import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from benchmarks.harness import ROOT, Claim, Pairs, Result, at_most, main, measured

FILES, FOLDERS, RUNS = 100_000, 100, 3


def measure() -> Iterable[Result]:
    """Both sources."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder / "classes", FILES // FOLDERS, texts=False)
        yield of(folder / "classes", "inspect_classes", "inspect 100,000 files, 100 class folders")
        make(folder / "texts", FILES // FOLDERS // 2, texts=True)
        yield of(folder / "texts", "inspect_texts", "inspect 100,000 files, a text beside each picture")


def make(folder: Path, images: int, texts: bool) -> None:
    """Equally many small pictures in each folder, with captions if requested."""
    made = io.BytesIO()
    Image.new("RGB", (64, 48)).save(made, "png")
    for cls in range(FOLDERS):
        inside = folder / f"class_{cls:03d}"
        inside.mkdir(parents=True)
        for number in range(images):
            (inside / f"{number:05d}.png").write_bytes(made.getvalue())
            if texts:
                (inside / f"{number:05d}.txt").write_text(f"picture {number} of class {cls}\n")


def of(folder: Path, name: str, title: str) -> Result:
    """Seconds of processor time."""
    claim = Claim(
        row=14,
        name=name,
        title=title,
        unit="s of processor time",
        better="lower",
        against="",
        bar=at_most(20),
    )
    return measured(claim, Pairs(tuple(seconds_of(folder) for _ in range(RUNS)), ()), {"files": FILES})


def seconds_of(folder: Path) -> float:
    """User and system time of one inspection."""
    command = [sys.executable, "-m", "shards.inspect", str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, folder
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main(measure)
