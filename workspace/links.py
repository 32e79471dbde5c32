"""One file in two places: a hard link, or a copy where the file system has none. Python's own modules alone are imported."""

import os
import shutil
from pathlib import Path


def link_or_copy(source: str | Path, destination: str | Path) -> str | Path:
    """Let `destination` be the file `source`: by a hard link, or by a copy where there are none (another disk, exFAT)."""
    try:
        os.link(source, destination)
    except OSError:
        shutil.copyfile(source, destination)
    return destination
