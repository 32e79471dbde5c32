"""Hard links, or copies where the file system has no links. Imports only the standard library."""

import os
import shutil
from pathlib import Path


def link_or_copy(source: str | Path, destination: str | Path) -> str | Path:
    """Make `destination` a hard link to `source`, or a copy where links are impossible (another disk, exFAT)."""
    try:
        os.link(source, destination)
    except OSError:
        shutil.copyfile(source, destination)
    return destination
