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
STARTING_SECONDS = 2.0
"""How long to wait for the command line of a process that is being started."""
PROCESSES = Path("/proc")


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
    with suppress(FileNotFoundError):  # another run of this workspace removes the place at this moment
        return [path for path in place().glob("session_*") if path.is_dir() and not path.is_symlink()]
    return []


def remove_dead(of: int | None = None) -> int:
    """Remove the folders of sessions in which no process works.

    Args:
        of: a process that has just ended its session; waits a moment for its child processes to end too.

    Returns:
        The number of folders removed.
    """
    deadline, removed = time.monotonic() + PATIENCE_SECONDS, 0
    while True:
        dead = _dead(of)
        for path in dead:
            shutil.rmtree(path, ignore_errors=True)
        removed += len(dead)
        if not [path for path in sessions() if _starter(path) == of] or time.monotonic() > deadline:
            break
        time.sleep(0.1)
    with suppress(FileNotFoundError):
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


def _dead(of: int | None) -> list[Path]:
    """The sessions whose starter is dead and that no command line names.

    Command lines are read last: all processes of a starter that was dead before are among them.
    """
    orphans = [path for path in sessions() if not _lives(_starter(path), of)]
    commands = _command_lines() if orphans else []
    return [path for path in orphans if not any(_may_name(command, path) for command in commands)]


def _may_name(command: bytes | None, session: Path) -> bool:
    """Whether a command line has a session's folder, or cannot be read yet."""
    return command is None or os.fsencode(session) in command


def _lives(starter: int, ended: int | None) -> bool:
    """Whether a process is alive; the one that has just ended its session counts as dead."""
    if starter in (0, ended):
        return False
    try:
        os.kill(starter, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _command_lines() -> list[bytes | None]:
    """The command lines of all processes that this user may read; None for one that is still being started."""
    found: list[bytes | None] = []
    deadline = time.monotonic() + STARTING_SECONDS
    for process in PROCESSES.glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or belongs to another user
            found.append(command_line(process, deadline))
    return found


def command_line(process: Path, deadline: float) -> bytes | None:
    """A process's command line; None if it is still empty at the deadline.

    It is empty for a moment within execve, when its parent already continues: Linux closes inherited files before it records
    the new arguments. Such a process has an executable. Zombies and kernel threads, whose line stays empty, have none.

    Raises:
        OSError: the process has ended, has no executable, or belongs to another user.
    """
    while not (line := (process / "cmdline").read_bytes()):
        (process / "exe").readlink()
        if time.monotonic() > deadline:
            return None
        time.sleep(0.01)
    return line
