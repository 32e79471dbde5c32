"""Ray's session folders: this workspace keeps its own in one place and removes the dead ones.

Ray itself never removes a session's logs and sockets, and keeps those of all users and projects together in /tmp/ray.
"""

import hashlib
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from workspace.errors import UserError

LONGEST = 40
"""Longest path of this place, in characters: Ray puts sockets below it, whose paths may have at most 107."""
PATIENCE_SECONDS = 10.0


def place() -> Path:
    """The folder for the sessions of this user's runs in this workspace; created if necessary.

    Raises:
        UserError: it belongs to another user.
    """
    mark = hashlib.sha256(os.fsencode(Path.cwd())).hexdigest()[:8]
    name = f"ray-{os.getuid()}-{mark}"
    folder = Path(tempfile.gettempdir(), name)
    if len(str(folder)) > LONGEST:
        folder = Path("/tmp", name)
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise UserError(
            f"{folder} belongs to another user, and Ray would work in it: set TMPDIR to a folder of yours"
        )
    return folder


def sessions() -> list[Path]:
    """The folders of all sessions, dead or alive."""
    return [path for path in place().glob("session_*") if path.is_dir() and not path.is_symlink()]


def remove_dead(of: int | None = None) -> int:
    """Remove the folders of sessions in which no process works.

    Args:
        of: a process that has just ended its session; waits a moment for its child processes to end too.

    Returns:
        The number of folders removed.
    """
    deadline, removed = time.monotonic() + PATIENCE_SECONDS, 0
    while True:
        commands = _command_lines()
        dead = [path for path in sessions() if not _is_alive(path, commands, of)]
        for path in dead:
            shutil.rmtree(path, ignore_errors=True)
        removed += len(dead)
        if not [path for path in sessions() if _starter(path) == of] or time.monotonic() > deadline:
            break
        time.sleep(0.1)
    _tidy(place())
    return removed


def _tidy(folder: Path) -> None:
    """Remove the place itself after its last session."""
    if not sessions():
        for name in ("session_latest", "ray_current_cluster"):
            (folder / name).unlink(missing_ok=True)
        with suppress(OSError):
            folder.rmdir()


def _starter(session: Path) -> int:
    """The id of the process that started a session, which ends the session's name."""
    last = session.name.rpartition("_")[2]
    return int(last) if last.isdecimal() else 0


def _is_alive(session: Path, commands: list[bytes], ended: int | None) -> bool:
    """Whether the process that started the session is alive, or any process with its folder on the command line."""
    if any(os.fsencode(session) in command for command in commands):
        return True
    starter = _starter(session)
    if starter in (0, ended):
        return False
    try:
        os.kill(starter, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _command_lines() -> list[bytes]:
    """The command lines of all processes that this user may read."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found.append(path.read_bytes())
    return found
