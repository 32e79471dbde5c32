"""A phase's JSON file: what each of its items found, written as soon as it is known, by the phase and by who watches it.

    {"phase": …, "items": {ITEM: {"ok": true, "seconds": …, …}}, "running": {"item": …, "since": …, "limit": …}}

An item that failed has `"ok": false` and `"error"`, its traceback. Standard library alone: the
file must be written whatever is broken.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def keep_json(path: Path, value: Any) -> None:
    """Write a file whole or not at all; numbers that JSON lacks (NaN) become text."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(json.dumps(_plain(value), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    beside.replace(path)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and (value != value or abs(value) == float("inf")):
        return str(value)
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def commit() -> str:
    """The code's commit: from Git, or from the file written by `pack`."""
    kept = ROOT / "COMMIT"
    if kept.is_file():
        return kept.read_text(encoding="utf-8").strip()
    asked = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    return asked.stdout.strip() or "unknown"


def tell(text: str) -> None:
    """A line for the person who waits, with the time of day."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stderr.flush()


class Notes:
    """The file of one phase; each change is read, made and written at once, so that two processes may take turns.

    Args:
        folder: where the file is.
        phase: its name.
    """

    def __init__(self, folder: Path, phase: str) -> None:
        self.phase, self.path = phase, folder / f"{phase}.json"

    def read(self) -> dict[str, Any]:
        """The current notes."""
        if not self.path.is_file():
            return {"phase": self.phase, "items": {}, "running": None}
        value: dict[str, Any] = json.loads(self.path.read_text(encoding="utf-8"))
        return value

    def has(self, item: str) -> bool:
        """Whether an item was tried."""
        return item in self.read()["items"]

    def begin(self, item: str, limit: float) -> None:
        """An item starts, and may take `limit` seconds."""
        keep_json(self.path, self.read() | {"running": {"item": item, "since": time.time(), "limit": limit}})

    def keep(self, item: str, found: dict[str, Any], ok: bool = True) -> None:
        """An item's findings, or those so far while it runs."""
        now = self.read()
        keep_json(self.path, now | {"items": now["items"] | {item: {"ok": ok} | found}})

    def end(self, item: str, found: dict[str, Any], ok: bool = True) -> None:
        """An item is over; what it kept before stays."""
        now = self.read()
        running = now["running"] or {"since": time.time()}
        took = {"seconds": round(time.time() - running["since"], 2)}
        before = now["items"].get(item, {})
        items = now["items"] | {item: before | {"ok": ok} | took | found}
        keep_json(self.path, now | {"items": items, "running": None})

    def interrupted(self, why: str) -> str | None:
        """The running item, if there is one, did not end by itself: note why, and return its name."""
        running = self.read()["running"]
        if running is None:
            return None
        self.end(running["item"], {"error": why}, ok=False)
        return str(running["item"])

    def overdue(self) -> bool:
        """Whether the running item has had its time."""
        running = self.read()["running"]
        return running is not None and time.time() - running["since"] > running["limit"]
