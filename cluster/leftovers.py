"""Folders of Ray's sessions: those of this workspace lie in a place of their own, where the dead ones are removed.

Ray itself keeps each session's logs and sockets below /tmp/ray for ever, those of all users and projects together.
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
"""Characters of the place: Ray puts sockets below it, and a socket's path has at most 107."""
PATIENCE_SECONDS = 3.0


def place() -> Path:
    """Where Ray keeps the sessions of this user's runs in this workspace; made if need be.

    Raises:
        UserError: somebody else has made it.
    """
    mark = hashlib.sha256(os.fsencode(Path.cwd())).hexdigest()[:8]
    name = f"ray-{os.getuid()}-{mark}"
    folder = Path(tempfile.gettempdir(), name)
    if len(str(folder)) > LONGEST:
        folder = Path("/tmp", name)
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise UserError(
            f"{folder} is another user's, and Ray would work in it: set TMPDIR to a folder of yours"
        )
    return folder


def sessions() -> list[Path]:
    """The folders of all sessions, dead or alive."""
    return [path for path in place().glob("session_*") if path.is_dir() and not path.is_symlink()]


def remove_dead(of: int | None = None) -> int:
    """Remove the folders of sessions that no process works in.

    Args:
        of: a process that has just ended its own session: wait a moment for what it started to end too.

    Returns:
        How many were removed.
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
    """Remove the place itself with its last session."""
    if not sessions():
        for name in ("session_latest", "ray_current_cluster"):
            (folder / name).unlink(missing_ok=True)
        with suppress(OSError):
            folder.rmdir()


def _starter(session: Path) -> int:
    """The process that started a session; its name ends with it."""
    last = session.name.rpartition("_")[2]
    return int(last) if last.isdecimal() else 0


def _is_alive(session: Path, commands: list[bytes], ended: int | None) -> bool:
    """Whether the process that started the session is alive, or any process that has its folder on its command line."""
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
    """Command lines of all processes that may be read."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found.append(path.read_bytes())
    return found
