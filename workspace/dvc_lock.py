"""Removes a lock file that DVC left half written.

DVC writes `.dvc/tmp/rwlock` in place. If Ctrl-C arrives in that moment, which the second of two can do, the file is left empty,
and every later command of DVC ends with "JSON structure is corrupted".

python -m workspace.dvc_lock      `make repro` and `make flow` do so when they start and when they end
"""

import fcntl
import json
from pathlib import Path

from workspace.commands import parser_of
from workspace.progress import say

RWLOCK = Path(".dvc/tmp/rwlock")


def mend(rwlock: Path = RWLOCK) -> bool:
    """Remove the file if it is torn and no command of DVC is writing it; returns whether it was removed."""
    if not _is_torn(rwlock):
        return False
    with rwlock.with_name("rwlock.lock").open("a") as guard:  # DVC holds it while it writes
        try:
            fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        if not _is_torn(rwlock):  # written since we looked
            return False
        rwlock.unlink()
    say(f"{rwlock}: DVC was stopped while it wrote this file; removed, so that DVC works again")
    return True


def _is_torn(rwlock: Path) -> bool:
    """Whether there is a file that is not JSON."""
    try:
        json.loads(rwlock.read_bytes())
    except FileNotFoundError:
        return False
    except ValueError:
        return True
    return False


def main() -> None:
    """The command line."""
    parser = parser_of("workspace.dvc_lock", __doc__)
    parser.add_argument("--quiet", action="store_true", help="say nothing if the file is whole")
    quiet = parser.parse_args().quiet
    if not mend() and not quiet:
        say(f"{RWLOCK} is whole, or there is none")


if __name__ == "__main__":
    main()
