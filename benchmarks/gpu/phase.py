"""One phase of the kit: its items one after the other, each noted as soon as it is over (started by `benchmarks.gpu`)."""

import importlib
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu.notes import Notes, tell
from benchmarks.gpu.watching import AGAIN
from workspace.commands import parser_of

PATIENCE = 10.0
"""How many times as long items may take in a rehearsal, whose machine may be busy with other things."""


@dataclass(frozen=True)
class Place:
    """A phase's device, inputs and outputs.

    Attributes:
        device: cuda or cpu.
        tiny: whether sizes are those of a rehearsal.
        out: folder of the results.
        work: folder of everything else, the current one.
        shards: folder with image shards NAME-SIZE; None draws shapes.
        weights: folder with SqueezeNet's weights and LPIPS heads; None has none.
        deadline: seconds since the epoch by which the phase ends.
    """

    device: str
    tiny: bool
    out: Path
    work: Path
    shards: Path | None
    weights: Path | None
    deadline: float

    @property
    def left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.time()


@dataclass(frozen=True)
class Item:
    """A piece of a phase.

    Attributes:
        name: in the phase's file.
        work: place → what it found, plain values; `ok` among them judges it (else it is right if nothing was raised).
        seconds: what it may take.
        least: it is left out where less time than this is left.
    """

    name: str
    work: Callable[[Place], dict[str, Any]]
    seconds: float
    least: float = 2.0


def run_items(items: Sequence[Item], place: Place, notes: Notes, fail: bool) -> None:
    """Try each item that was not tried before; on a GPU, end with `AGAIN` after one that failed."""
    for item in items:
        if notes.has(item.name):
            continue
        if place.left < item.least:
            notes.end(item.name, {"error": f"left out: {place.left:.0f} s were left"}, ok=False)
            continue
        notes.begin(item.name, min(item.seconds * (PATIENCE if place.tiny else 1), place.left))
        try:
            if fail and item is items[0]:
                raise RuntimeError("failed on purpose")
            found = item.work(place)
        except Exception:
            notes.end(item.name, {"error": traceback.format_exc()}, ok=False)
            tell(f"{notes.phase}/{item.name}: failed")
            if place.device == "cuda":  # after some errors of CUDA every call of the process fails
                sys.exit(AGAIN)
        else:
            ok = bool(found.get("ok", True))
            notes.end(item.name, found, ok)
            tell(f"{notes.phase}/{item.name}: {'ok' if ok else 'NOT ok'}")


def main() -> None:
    """The command line."""
    parser = parser_of("benchmarks.gpu.phase", __doc__)
    parser.add_argument(
        "name",
        help="machine, correctness, speed, science, showcase; warm-0 … warm-2 fill the compiler's cache",
    )
    parser.add_argument("--out", type=Path, default=Path(), help="folder of the results")
    parser.add_argument("--device", choices=["cuda", "cpu"], required=True, help="where to compute")
    parser.add_argument("--tiny", action="store_true", help="use the sizes of a rehearsal")
    parser.add_argument("--shards", type=Path, help="folder with image shards NAME-SIZE")
    parser.add_argument("--weights", type=Path, help="folder with SqueezeNet's weights and LPIPS heads")
    parser.add_argument("--deadline", type=float, default=time.time() + 600, help="seconds since the epoch")
    parser.add_argument("--items", nargs="+", help="run only these items")
    parser.add_argument("--fail", action="store_true", help="let the first item fail on purpose")
    given = parser.parse_args()
    place = Place(
        given.device, given.tiny, given.out, Path.cwd(), given.shards, given.weights, given.deadline
    )
    name, _, number = given.name.partition("-")
    module = importlib.import_module(f"benchmarks.gpu.{'speed' if name == 'warm' else name}")
    if given.tiny:
        importlib.import_module("torch").set_num_threads(1)
    if name == "warm":
        module.warm(place, int(number))
        return
    chosen = [item for item in module.items(place) if item.name in (given.items or [item.name])]
    run_items(chosen, place, Notes(given.out, given.name), given.fail)


if __name__ == "__main__":
    main()
