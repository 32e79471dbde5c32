"""This project's own Prefect: its home in `.runs/prefect`, and an environment isolated from any other Prefect.

Prefect reads its settings (profile, `PREFECT_*`, API key) on import. Every command of `pipelines/` therefore calls `use` before
it first imports Prefect, so that the user's profile can neither redirect nor break a run. `MQVAE_PREFECT=mine` uses the user's
own Prefect instead.
"""

import fcntl
import json
import os
import pwd
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

HOME = Path(".runs/prefect")
STATE, LOCK = HOME / "dashboard.json", HOME / "lock"
ALIVE = Path(".runs/flows")
"""A lock for each flow's process, named after its run."""
PICTURES, SERVERS = HOME / "pictures", HOME / "servers.lock"
CHOICE, MINE = "MQVAE_PREFECT", "mine"
BIN = Path(sys.executable).parent
LOOPBACK = ("127.0.0.1", "localhost", "::1")
START_SECONDS = 600.0


def use(root: Path) -> None:
    """Set this process's environment to the project's Prefect: the running dashboard's server, else a server for this run.

    Does nothing if `MQVAE_PREFECT=mine`.

    Raises:
        SystemExit: `MQVAE_PREFECT` has another value.
    """
    choice = os.environ.get(CHOICE, "")
    if others():
        return
    if choice:
        sys.exit(
            f"{CHOICE}={choice}: expected {MINE} (your own Prefect profile), or nothing (this project's)"
        )
    state = dashboard(root, wait=START_SECONDS)
    adopt(root, state["api"] if state else None)


def others() -> bool:
    """Whether the user has chosen their own Prefect."""
    return os.environ.get(CHOICE) == MINE


def adopt(root: Path, api: str | None) -> None:
    """Set this process's environment to `environment`, and create the home.

    Raises:
        SystemExit: the workspace's .env has settings of Prefect's.
    """
    if names := set_by_dotenv(root):
        sys.exit(
            f".env sets {', '.join(names)}, which Prefect would take before this project's own settings: "
            f"remove this from .env, or use your own Prefect: MQVAE_PREFECT={MINE}"
        )
    wanted = environment(root, api)
    (root / HOME).mkdir(parents=True, exist_ok=True)
    os.environ.clear()
    os.environ.update(wanted)


def set_by_dotenv(root: Path) -> list[str]:
    """Prefect's settings that a workspace's .env names. Prefect reads that file wherever it starts; no setting forbids it."""
    file = root / ".env"
    text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
    return re.findall(r"^\s*(?:export\s+)?(PREFECT_\w+)\s*=", text, re.MULTILINE | re.IGNORECASE)


def environment(root: Path, api: str | None) -> dict[str, str]:
    """The environment of a process that uses only this project's Prefect; prefect.toml has machine-independent settings.

    Args:
        root: the workspace.
        api: address of the server's API; None starts a server that lives as long as the process.
    """
    theirs = ("PREFECT_", CHOICE)
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(theirs)}
    home = (root / HOME).resolve()
    kept |= {
        "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "PYTHONPATH": str(root.resolve()),
        "PREFECT_HOME": str(home),
        "PREFECT_PROFILES_PATH": str(home / "profiles.toml"),
        "PREFECT_API_URL": api or "",
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false" if api else "true",
        "PREFECT_CLI_PROMPT": "false",
        "DO_NOT_TRACK": "1",
    }
    return kept | no_proxy(kept) | somebody(kept, root)


def somebody(env: Mapping[str, str], root: Path) -> dict[str, str]:
    """A name and a home where neither the environment nor the system knows any, as in a container: DVC asks for both."""
    try:
        known = pwd.getpwuid(os.getuid())
    except KeyError:
        known = None
    found = {"USER": known.pw_name if known else str(os.getuid())}
    found["HOME"] = known.pw_dir if known else str((root / ".runs" / "home").resolve())
    return {name: value for name, value in found.items() if not env.get(name)}


def no_proxy(env: dict[str, str]) -> dict[str, str]:
    """Both spellings of NO_PROXY with this machine added, because a proxy cannot reach a server on loopback."""
    given = env.get("NO_PROXY") or env.get("no_proxy") or ""
    names = dict.fromkeys([*filter(None, (name.strip() for name in given.split(","))), *LOOPBACK])
    return dict.fromkeys(("NO_PROXY", "no_proxy"), ",".join(names))


def dashboard(root: Path, wait: float = 0) -> dict[str, Any] | None:
    """The addresses (`api`, `ui`) of the workspace's running dashboard, or None if there is none.

    Args:
        root: the workspace.
        wait: seconds to wait for one that is just starting.
    """
    deadline = time.monotonic() + wait
    while locked(root / LOCK):
        if (root / STATE).is_file():
            state: dict[str, Any] = json.loads((root / STATE).read_text(encoding="utf-8"))
            return state
        if time.monotonic() > deadline:
            break
        time.sleep(0.2)
    return None


def locked(path: Path) -> bool:
    """Whether a living process holds a lock; the kernel releases it when its holder dies by any signal."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


@contextmanager
def lock(path: Path) -> Iterator[IO[str] | None]:
    """Hold a lock within the block; processes that inherit its file hold it too. Yields None if another process has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        yield file
