"""The cost of Ray itself: a trivial shard, the driver's memory, and the fixed cost in the stages of `make repro`.

    python -m benchmarks.ray_overhead     writes benchmarks/results/ray_overhead.json

Each figure is taken in a process of its own, with one head for all as in `make repro`. A trivial shard writes its index
to its output file, atomically, as every mapped function does. The demo's fan-outs are short, and so start no Ray worker
(cluster/crew.py): of `make repro` Ray has the head and two trainings; `a_fan_out` is what a longer one would add.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.harness import commit
from cluster import crew
from cluster.head import start, stop
from cluster.shard_map import ShardJob, map_shards
from cluster.training import WorkerGroup, fit
from workspace.commands import parser_of
from workspace.exact.manifest import atomic_path, write_json
from workspace.settings import Compute

RESULT = Path("benchmarks/results/ray_overhead.json")
TWO = Compute(device="cpu", workers=2, threads=1, loader_workers=0, ray_address="local")
TRAININGS = 2
"""Stages of `make repro` that train."""


def trivial() -> Callable[[ShardJob], dict[str, Any]]:
    """Nothing to load, next to nothing to do."""

    def one(job: ShardJob) -> dict[str, Any]:
        with atomic_path(job.output) as temporary:
            temporary.write_text(str(job.index))
        return {"index": job.index}

    return one


def nothing(config: None, group: WorkerGroup) -> None:
    """A training without a step."""


def shards(count: int, folder: Path) -> dict[str, float]:
    """Map `count` trivial shards; seconds in all and a shard, and the driver's peak memory in MB."""
    jobs = [ShardJob(folder / "in", folder / "out" / f"{number:06d}", number) for number in range(count)]
    crew.SHORT_SECONDS = 0.0  # on Ray from the first shard
    began = time.monotonic()
    told = map_shards(trivial, jobs, TWO, folder / "done", "trivial", folder / "progress.json")
    seconds = time.monotonic() - began
    assert all(facts["index"] == number for number, facts in enumerate(told))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "seconds": round(seconds, 2),
        "ms_a_shard": round(1000 * seconds / count, 3),
        "driver_peak_mb": round(peak, 1),
    }


def training(folder: Path) -> dict[str, float]:
    """Train nothing on two workers."""
    began = time.monotonic()
    fit(nothing, None, TWO, folder)
    return {"seconds": round(time.monotonic() - began, 2)}


def in_process(what: str) -> dict[str, float]:
    """One measurement in a fresh process; its last line is the result."""
    command = [sys.executable, "-m", "benchmarks.ray_overhead", "--one", what]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(counts: tuple[int, ...]) -> dict[str, Any]:
    """All figures."""
    began = time.monotonic()
    start()
    head = time.monotonic() - began
    try:
        found: dict[str, Any] = {f"{count} shards": in_process(str(count)) for count in counts}
        fan_out, trained = in_process("2")["seconds"], in_process("fit")["seconds"]
    finally:
        began = time.monotonic()
        stop()
        head += time.monotonic() - began
    share = {"head": round(head, 2), "a_fan_out": fan_out, "a_training": trained}
    share["of_make_repro"] = round(head + TRAININGS * trained, 1)
    return found | {"ray_seconds": share}


def main() -> None:
    """The command line."""
    parser = parser_of("benchmarks.ray_overhead", __doc__)
    parser.add_argument("--shards", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one is not None:
        with tempfile.TemporaryDirectory() as name:
            found = training(Path(name)) if given.one == "fit" else shards(int(given.one), Path(name))
        sys.stdout.write(f"{json.dumps(found)}\n")
        return
    told = measure(tuple(given.shards))
    write_json(RESULT, told | {"commit": commit(), "command": "python -m benchmarks.ray_overhead"})
    sys.stdout.write(RESULT.read_text())


if __name__ == "__main__":
    main()
