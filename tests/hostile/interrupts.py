"""`make repro` stopped at random moments, by Ctrl-C and SIGTERM: `python -m tests.hostile.interrupts` (`make interrupts`).

The reference is one undisturbed `make repro` at tiny scale. A moment is a random time of it: the stage that worked then is
made undone (its outputs, its run, DVC's run cache), `make repro` is started as a process group, and that group gets
SIGINT or SIGTERM in turn, twice in every third case, as far into the stage as the moment was. Then `dvc repro` must
complete, and every artifact but the report must be the reference's, byte by byte.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from bisect import bisect
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import accumulate
from pathlib import Path

import yaml

from tests.hostile.results import write_results
from tests.tiny import copy_of_the_repository, environment
from workspace.progress import say

RESULT = "interrupts.json"
RUNNING = "Running stage '"
GONE_SECONDS = 900.0
SECOND_AFTER = 0.3
SHORTEST = 0.01


@dataclass(frozen=True)
class Moment:
    """When and how: the stage that works ("" before the first), seconds into it, the signal, whether it comes twice."""

    stage: str
    seconds: float
    signal: str
    twice: bool


def usable(folder: Path) -> Path:
    """A repository in which `make` finds this interpreter's environment and installs nothing."""
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


def make_repro(folder: Path) -> "subprocess.Popen[str]":
    """`make repro`, a process group of its own."""
    return subprocess.Popen(
        ["make", "-o", ".venv/installed", "repro"], cwd=folder, env=environment(folder) | {"PYTHONUNBUFFERED": "1"}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, errors="replace", start_new_session=True,
    )  # fmt: skip


def timeline(folder: Path) -> list[tuple[str, float]]:
    """Run everything; each stage, "" first, and how many seconds it took."""
    began, stage, found = time.monotonic(), "", []
    process = make_repro(folder)
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if line.startswith(RUNNING):
            found.append((stage, time.monotonic() - began))
            began, stage = time.monotonic(), name_of(line)
    assert process.wait() == 0, "".join(said[-30:])
    return [*found, (stage, time.monotonic() - began)]


def name_of(line: str) -> str:
    """The stage of a line "Running stage 'demo/dvc.yaml:draw_shapes':"."""
    return line.split("'")[1].rpartition(":")[2]


def drawn(stages: Sequence[tuple[str, float]], count: int, seed: int) -> list[Moment]:
    """Moments spread evenly at random over a timeline."""
    generator, total = random.Random(seed), sum(seconds for _, seconds in stages)
    found = []
    for number in range(count):
        place = generator.uniform(0, total)
        ends = list(accumulate(seconds for _, seconds in stages))
        index = min(bisect(ends, place), len(stages) - 1)
        into = place - (ends[index] - stages[index][1])
        chosen = ("SIGINT", "SIGTERM")[number % 2]
        found.append(Moment(stages[index][0], round(into, 2), chosen, number % 3 == 2))
    return found


def artifacts_of(folder: Path) -> dict[str, bytes]:
    """Every file of every artifact but the report."""
    paths = (path for path in (folder / "artifacts").rglob("*") if path.is_file())
    named = {path.relative_to(folder).as_posix(): path for path in paths}
    return {name: path.read_bytes() for name, path in sorted(named.items()) if "/report/" not in name}


OUTPUTS = {
    "draw_shapes": "shapes", "shard": "shards", "reference": "reference", "train_mqvae": "mqvae",
    "reconstruct": "reconstructions", "tokenize": "tokens", "train_stackformer": "stackformer", "sample": "samples",
    "evaluate": "evaluation", "report": "report",
}  # fmt: skip


def undo(folder: Path, stage: str) -> None:
    """As if a stage had not run yet."""
    for name in (f"artifacts/{OUTPUTS[stage]}", f"metrics/{stage}", f".runs/{stage}", ".dvc/cache/runs"):
        shutil.rmtree(folder / name, ignore_errors=True)
    lock = folder / "dvc.lock"  # an output that DVC's cache holds whole would be taken from there, not made
    known = yaml.safe_load(lock.read_text(encoding="utf-8"))
    known["stages"].pop(stage, None)
    lock.write_text(yaml.safe_dump(known, sort_keys=False), encoding="utf-8")


def interrupt(folder: Path, moment: Moment) -> bool:
    """Stop a `make repro` at a moment; False where it had ended before. It is gone when this returns."""
    undo(folder, moment.stage or "report")
    process = make_repro(folder)
    reached = threading.Event()

    def listen() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(RUNNING) and name_of(line) == moment.stage:
                reached.set()

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    while moment.stage and not reached.wait(0.05) and process.poll() is None:
        pass
    time.sleep(moment.seconds)
    hit = process.poll() is None
    for _ in range(1 + moment.twice):
        signal_group(process, getattr(signal, moment.signal))
        time.sleep(SECOND_AFTER)
    process.wait(GONE_SECONDS)
    deadline = time.monotonic() + GONE_SECONDS
    while signal_group(process, 0) and time.monotonic() < deadline:
        time.sleep(0.1)
    listener.join(GONE_SECONDS)
    return hit


def signal_group(process: "subprocess.Popen[str]", number: int) -> bool:
    """Signal a process group (0: ask whether it lives); False where it has gone."""
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return False
    return True


def completes(folder: Path) -> str:
    """Run `dvc repro`; "" or what it said where it failed."""
    done = subprocess.run(
        [str(Path(sys.executable).with_name("dvc")), "repro"], cwd=folder, env=environment(folder),
        capture_output=True, text=True, errors="replace", check=False, timeout=1800,
    )  # fmt: skip
    return "" if done.returncode == 0 else (done.stdout + done.stderr)[-2000:]


def tried(folder: Path, moment: Moment, reference: dict[str, bytes]) -> str:
    """Interrupt, complete, compare; "" where all is as it was, else what is not."""
    while not interrupt(folder, moment):  # the machine was faster than when the reference was made
        if moment.seconds < SHORTEST:
            return "the stage did not run, so it could not be stopped"
        moment = replace(moment, seconds=moment.seconds / 2)
    failed = completes(folder)
    if failed:
        return f"dvc repro failed: {failed}"
    found = artifacts_of(folder)
    other = sorted(name for name in found.keys() | reference.keys() if found.get(name) != reference.get(name))
    return f"other bytes in {', '.join(other[:5])}" if other else ""


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile.interrupts", description=__doc__)
    parser.add_argument("--moments", type=int, default=30)
    parser.add_argument(
        "--chains", type=int, default=2, help="copies of the repository that are tried side by side"
    )
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="interrupts-") as place:
        first = usable(copy_of_the_repository(Path(place) / "0"))
        stages = timeline(first)
        say(f"undisturbed: {sum(seconds for _, seconds in stages):.0f} s")
        reference, moments = artifacts_of(first), drawn(stages, asked.moments, asked.seed)
        folders = [first, *(Path(place) / str(number) for number in range(1, asked.chains))]
        for folder in folders[1:]:
            shutil.copytree(first, folder, symlinks=True)
        told: list[dict[str, object]] = []

        def chain(number: int) -> None:
            for moment in moments[number :: asked.chains]:
                wrong = tried(folders[number], moment, reference)
                told.append({**asdict(moment), "wrong": wrong})
                say(f"{len(told)}/{asked.moments} {moment} {wrong or 'identical'}")
                write(told, asked.moments, asked.seed)
                if wrong:  # the next moment starts from a whole repository again
                    shutil.rmtree(folders[number])
                    shutil.copytree(first if number else folders[-1], folders[number], symlinks=True)

        with ThreadPoolExecutor(asked.chains) as pool:
            list(pool.map(chain, range(asked.chains)))
    wrong = [one for one in told if one["wrong"]]
    if wrong or len(told) != asked.moments:
        sys.exit(f"{len(wrong)} of {len(told)} moments did not end as the reference")


def write(told: Sequence[dict[str, object]], asked: int, seed: int) -> None:
    """Write what is known so far."""
    identical = sum(not one["wrong"] for one in told)
    ordered = sorted(told, key=lambda one: (str(one["stage"]), str(one["seconds"])))
    found = {"moments": len(told), "identical": identical, "asked": asked, "seed": seed, "at": ordered}
    write_results(RESULT, found, "make interrupts")


if __name__ == "__main__":
    main()
