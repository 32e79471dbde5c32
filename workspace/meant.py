"""A path that is not there, and what it may mean: what a shell would have expanded, another spelling, a path of Windows."""

import difflib
import os
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

MOST_NAMES = 10_000
"""Names of a folder that are compared; more would take seconds."""
DRIVE = re.compile(r"([A-Za-z]):[\\/](.*)")


def did_you_mean(path: str) -> str:
    """` (did you mean X?)`, X being there; "" if nothing near is."""
    found = next((near for near in _spellings(path) if near != path and os.path.exists(near)), None)
    return f" (did you mean {found}?)" if found else ""


def _spellings(path: str) -> Iterator[str]:
    """`~`, `$HOME`, quotes, spaces and backslashes as params.yaml keeps them, then the nearest name that is there."""
    for plain in dict.fromkeys((path, path.strip().strip("'\"").strip())):
        yield plain
        yield os.path.expanduser(os.path.expandvars(plain))  # noqa: PTH111 (Path's raises for a user who is not there)
        if drive := DRIVE.fullmatch(plain):
            yield f"/mnt/{drive[1].lower()}/{drive[2]}".replace("\\", "/")  # where WSL has it
        yield plain.replace("\\", "/")
        yield _nearest(Path(plain))


def _nearest(path: Path) -> str:
    """The path with each name that is not there replaced by the most similar one that is; "" if there is none."""
    found = Path(path.anchor)
    for name in path.relative_to(path.anchor).parts:
        there = found / name
        if not os.path.lexists(there) and (near := _similar(found, name)) is None:
            return ""
        found = there if os.path.lexists(there) else found / str(near)
    return str(found)


def _similar(folder: Path, name: str) -> str | None:
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in islice(entries, MOST_NAMES))
    except OSError:
        return None
    folded = {one.casefold(): one for one in names}
    near = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.75)
    return folded[near[0]] if near else None
