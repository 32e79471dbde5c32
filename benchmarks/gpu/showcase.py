"""Phase e: models of 64 and 128 px, with and without classes, trained side by side for the time that is left, and their grids."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from benchmarks.gpu.notes import Notes
from benchmarks.gpu.phase import Item, Place
from benchmarks.gpu.portrait import PORTRAITS
from benchmarks.gpu.stages import Ended, Program, side_by_side, width_of

ENDING_SECONDS = 4.0
LARGE_SECONDS = 300.0
"""Models of 128 px are trained where more than this is left."""


def items(place: Place) -> list[Item]:
    """One: they share the device."""
    return [Item("portraits", portraits, 3600, least=40 if not place.tiny else 2)]


def portraits(place: Place) -> dict[str, Any]:
    """Start them all; what each found is noted when it ends, and what it had when its time was up."""
    notes, folder = Notes(place.out, "showcase"), place.work / "showcase"
    folder.mkdir(exist_ok=True)
    names = [name for name in PORTRAITS if place.left > LARGE_SECONDS or PORTRAITS[name].size == 64]
    names = names[:1] if place.tiny else names
    until = place.deadline - ENDING_SECONDS
    programs = [Program(f"portrait-{name}", command(place, name, folder / name, until)) for name in names]
    found: dict[str, Any] = {}

    def note(program: str, ended: Ended) -> None:
        name = program.removeprefix("portrait-")
        told = folder / name / "found.json"
        value = json.loads(told.read_text(encoding="utf-8")) if told.is_file() else {}
        value |= {"seconds": round(ended.seconds, 1), "status": ended.status}
        found[name] = value if ended.ok else value | {"tail": ended.tail}
        notes.keep("portraits", {"models": found})

    side_by_side(programs, place, max(len(names), width_of(place)), until, note)
    for path in sorted(folder.glob("*/*.png")):
        shutil.copyfile(path, place.work / "pictures" / f"showcase-{path.parent.name}-{path.name}")
    return {"models": found, "ok": any(value["status"] == 0 for value in found.values())}


def command(place: Place, name: str, folder: Path, until: float) -> list[str]:
    """One portrait's command line."""
    words = [
        sys.executable,
        "-m",
        "benchmarks.gpu.portrait",
        name,
        "--out",
        str(folder),
        "--device",
        place.device,
    ]
    words += ["--deadline", str(until), *(["--tiny"] if place.tiny else [])]
    for option, path in (("--shards", place.shards), ("--weights", place.weights)):
        words += [option, str(path)] if path is not None else []
    return words
