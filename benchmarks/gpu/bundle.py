"""A run's results as a bundle: few files, none of them large."""

import zipfile
from pathlib import Path

MOST_BYTES = 15 << 20
"""Largest file, in bytes."""


def bundle(pictures: Path, out: Path) -> None:
    """Put pictures into one archive, in the order of their names while they fit, and cut the log to its end."""
    with zipfile.ZipFile(out / "pictures.zip", "w", zipfile.ZIP_STORED) as archive:
        total = 0
        for path in sorted(pictures.rglob("*")):
            size = path.stat().st_size if path.is_file() else 0
            if size and total + size < MOST_BYTES:
                archive.write(path, path.relative_to(pictures))
                total += size
    for torn in out.glob(".*"):  # of a process that was ended while it wrote
        torn.unlink()
    log = out / "log.txt"
    if log.is_file() and log.stat().st_size > MOST_BYTES:
        log.write_bytes(log.read_bytes()[-MOST_BYTES:])
