"""`make chaos`: kill -9 at random moments on a real Ray of two nodes; every run must end as if nothing had happened.

    python -m tests.chaos.run --kills 40 --minutes 35 --replace      writes docs/results/chaos.json as it goes
    python -m tests.chaos.run --images 20000 --add                   adds one run: shard of so many images, on both nodes

A run is one stage's own command in a small project, disturbed by a list of kills: of a training worker, of an actor of a
fan-out stage, of the second node's raylet, of the driver (whose command is then repeated). Its artifact is compared with
that of an undisturbed run in one process without Ray: bit for bit, or to 1e-5 in float64 where several workers trained.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.processes import in_session, kill, title, wait_for
from tests.chaos.project import LARGER, ROOT, STAGES, Project, contents, farthest, make
from tests.chaos.two_nodes import TwoNodes
from tests.waiting import matching
from workspace.settings import read_tree

RESULT = Path("docs/results/chaos.json")
FAN_OUT = ("shard", "reference", "reconstruct", "tokenize", "sample", "evaluate")
TRAINING = ("train_mqvae", "train_stackformer")
TOLERANCE = 1e-5
RUN_SECONDS = 600.0
"""A run that is not done by then has hung."""
TITLES = {"actor": "ray::Mapper", "worker": "ray::RayTrainWorker"}


@dataclass
class Kill:
    """What was killed, and when: seconds since the command's start, shards or steps that were safe, starts of training."""

    stage: str
    target: str
    workers: int
    process: str
    seconds: float
    done: int
    checkpoint: int
    starts: int


@dataclass
class Outcome:
    """How a disturbed run ended."""

    stage: str
    workers: int
    kills: list[Kill] = field(default_factory=list)
    commands: int = 1
    identical: bool = False
    difference: float = 0.0
    orphans: list[str] = field(default_factory=list)
    temporary: list[str] = field(default_factory=list)
    trained_again: int = 0
    seconds: float = 0.0
    images: int = 0


class Disturbed:
    """One run of one stage."""

    def __init__(
        self, base: Project, folder: Path, nodes: TwoNodes, stage: str, workers: int, dice: random.Random
    ) -> None:
        self.base, self.nodes, self.stage, self.workers, self.dice = base, nodes, stage, workers, dice
        compute = {
            "device": "cpu",
            "workers": workers,
            "threads": 1,
            "loader_workers": 0,
            "ray_address": nodes.address,
        }
        self.project = base.without(stage, folder, {"compute": compute})
        self.outcome = Outcome(stage, workers)

    def run(self, targets: Sequence[str]) -> Outcome:
        """Run the command, kill the targets one after the other, and look at what came out."""
        began = time.monotonic()
        self._start()
        for target in targets:
            if not self._kill(target):
                break
        self._end(len(targets))
        self.outcome.seconds = round(time.monotonic() - began, 1)
        return self.outcome

    def _end(self, kills: int) -> None:
        """Wait for the command's end, repeat it where it failed, and look at what came out."""
        while not wait_for(lambda: self.process.poll() is not None, RUN_SECONDS) or self.process.returncode:
            assert self.process.poll() is not None, f"{self.stage} hangs:\n{self.project.said()[-3000:]}"
            assert self.outcome.commands < 4 + kills, self.project.said()[-3000:]
            self._again()
        self._look()

    def _start(self) -> None:
        self.nodes.ensure_node()
        self.began = time.monotonic()
        self.process = self.project.start(self.stage, self.nodes.environment)

    def _again(self) -> None:
        self.outcome.commands += 1
        self._start()

    def _kill(self, target: str) -> bool:
        """Wait for a random moment and kill; False where the stage was done before it came."""
        pid = self._victim(target)
        if pid is None:
            return False
        done, starts = self._progress(), len(self._starts())
        checkpoint = max(self._checkpoints(), default=0)
        name = title(pid)
        kill(pid)
        seconds = round(time.monotonic() - self.began, 2)
        self.outcome.kills.append(
            Kill(
                self.stage,
                target,
                self.workers,
                name.split(" ")[0].rpartition("/")[2],
                seconds,
                done,
                checkpoint,
                starts,
            )
        )
        if target == "driver":
            self.process.wait()
            self.outcome.orphans += self._orphans()
            self._again()
        else:
            time.sleep(self.dice.uniform(0, 0.5))
        return True

    def _victim(self, target: str) -> int | None:
        """The process to kill, after a random wait; None where the stage has finished."""
        if target == "driver":
            if self.dice.random() < 0.6:
                wait_for(lambda: self._begun() or self.process.poll() is not None, RUN_SECONDS, 0.1)
            wait_for(lambda: self.process.poll() is not None, self.dice.uniform(0, 8))
            return None if self.process.poll() is not None else self.process.pid
        titles = (TITLES[target],) if target in TITLES else tuple(TITLES.values())
        wait_for(lambda: self.nodes.working(*titles) or self.process.poll() is not None, RUN_SECONDS, 0.2)
        # Most kills meet work, some the start; a fan-out's work is over within a second where nothing else runs.
        at_work, longest = (0.5, 0.3) if self.stage in FAN_OUT else (0.8, 1.0)
        if self.dice.random() < at_work:
            wait_for(lambda: self._begun() or self.process.poll() is not None, RUN_SECONDS, 0.05)
        wait_for(lambda: self.process.poll() is not None, self.dice.uniform(0, longest))
        if self.process.poll() is not None:
            return None
        if target == "raylet":
            self.nodes.ensure_node()
            return self.nodes.raylet(self.nodes.node)
        found = self.nodes.working(*titles)
        return self.dice.choice(found) if found else self._victim(target)

    def _begun(self) -> bool:
        """Whether the work itself has begun since the last kill."""
        return self._progress() > (self.outcome.kills[-1].done if self.outcome.kills else 0)

    def _progress(self) -> int:
        """Shards or steps that are done and safe."""
        run = self.project.run_folder(self.stage)
        if run is not None and self.stage in FAN_OUT:
            return len(matching(run, "work/done/[!.]*.json"))
        return max(self._checkpoints(), default=0)

    def _checkpoints(self) -> list[int]:
        run = self.project.run_folder(self.stage)
        return (
            []
            if run is None
            else [int(path.name.removeprefix("step-")) for path in matching(run, "work/step-*")]
        )

    def _orphans(self) -> list[str]:
        """What lives on of a command that has ended."""
        session = self.process.pid
        wait_for(lambda: not in_session(session) and not self.nodes.working(), 30)
        return [title(pid) for pid in (*in_session(session), *self.nodes.working()) if title(pid)]

    def _look(self) -> None:
        outcome, made = self.outcome, self.project.output(self.stage)
        outcome.orphans += self._orphans()
        outcome.temporary = self.project.torn()
        expected = self.base.output(self.stage)
        outcome.identical = contents(made) == contents(expected)
        if not outcome.identical and self.stage in TRAINING and self.workers > 1:
            outcome.difference = farthest(made, expected)
            outcome.identical = outcome.difference <= TOLERANCE
        outcome.trained_again = self._trained_again()
        if self.stage == "shard":
            facts = json.loads((made / "manifest.json").read_text())["facts"]
            outcome.images = sum(facts["counts"].values())

    def _trained_again(self) -> int:
        """Steps that were trained again although a checkpoint held them when their worker was killed."""
        starts, kills = self._starts(), self.outcome.kills
        return sum(max(0, one.checkpoint - starts[one.starts]) for one in kills if one.starts < len(starts))

    def _starts(self) -> list[int]:
        """The steps that were done at each start of the training so far."""
        return [one["steps_done"] for one in self._attempts()]

    def _attempts(self) -> list[dict[str, int]]:
        """Each start of the training so far: steps that were done, and workers."""
        run = self.project.run_folder(self.stage)
        file = None if run is None else run / "work" / "attempts.jsonl"
        if file is None or not file.is_file():
            return []
        return [json.loads(line) for line in file.read_text().splitlines()]


def plan(kills: int, dice: random.Random) -> list[tuple[str, int, list[str]]]:
    """Runs of (stage, workers, targets) with so many kills in all, every kind in every stage, in random order."""
    runs: list[tuple[str, int, list[str]]] = []
    while sum(len(targets) for _, _, targets in runs) < kills:
        first = len(runs)
        for stage in FAN_OUT:
            targets = ["actor", "actor", "actor", "actor", "raylet", "driver"]
            dice.shuffle(targets)
            runs.append((stage, 2, targets))
        for stage in TRAINING:
            for workers in (1, 2):
                targets = ["worker", "worker", "worker", "driver"] + (["raylet"] if workers == 2 else [])
                dice.shuffle(targets)
                runs.append((stage, workers, targets))
        now = runs[first:]
        dice.shuffle(now)
        runs[first:] = now
    return runs


def shard_of(images: int) -> dict[str, dict[str, Any]]:
    """Settings with so many images to shard, 100 in a tar."""
    shapes = {"train": images - images // 20, "val": images // 20, "image_size": 64}
    shard = {"samples_per_shard": 100, "image_size": 64}
    model = read_tree(ROOT / "presets" / "tiny.yaml")["mqvae"]["model"] | {"image_size": 64}
    return {"shapes": shapes, "shard": shard, "mqvae": {"model": model}}


def commit() -> str:
    """The commit that was run."""
    found = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
    return found.stdout.strip()


def summary(
    outcomes: Sequence[Outcome], command: str, left: Sequence[int], earlier: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
    """What docs/results/chaos.json says, of these runs and of earlier ones that are kept."""
    here = {"commit": commit(), "command": command}
    each = [*earlier, *(asdict(outcome) | here for outcome in outcomes)]
    return {
        "kills": sum(len(run["kills"]) for run in each),
        "runs": len(each),
        "identical": sum(run["identical"] for run in each),
        "orphans": sum(len(run["orphans"]) for run in each) + len(left),
        "temporary_files": sum(len(run["temporary"]) for run in each),
        "trained_again_beyond_checkpoint": sum(run["trained_again"] for run in each),
        "largest_difference": max((run["difference"] for run in each), default=0.0),
        **here,
        "each": each,
    }


def chaos(
    runs: Sequence[tuple[str, int, list[str]]],
    kills: int,
    minutes: float,
    seed: int,
    base: Project,
    scratch: Path,
    command: str,
    earlier: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """Run the runs until so many kills are done or time is up."""
    dice, outcomes, began = random.Random(seed), list[Outcome](), time.monotonic()
    nodes = TwoNodes()
    left: list[int] = []
    try:
        for number, (stage, workers, targets) in enumerate(runs):
            done = sum(len(outcome.kills) for outcome in outcomes)
            if done >= kills or time.monotonic() - began > minutes * 60:
                break
            folder = scratch / f"run-{number}"
            outcomes.append(Disturbed(base, folder, nodes, stage, workers, dice).run(targets))
            sys.stderr.write(f"{outcomes[-1]}\n")
            shutil.rmtree(folder)
            write(summary(outcomes, command, [], earlier))
    finally:
        left = nodes.stop()
    found = summary(outcomes, command, left, earlier)
    write(found)
    return found


def write(found: dict[str, Any]) -> None:
    """Keep what is known so far."""
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(found, indent=1) + "\n")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.run", description=__doc__)
    parser.add_argument("--kills", type=int, default=40, help="at least so many")
    parser.add_argument("--minutes", type=float, default=60, help="start no new run after so many")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--base", type=Path, help="where the undisturbed project is, or is to be kept")
    kept = parser.add_mutually_exclusive_group()
    kept.add_argument("--add", action="store_true", help="to the runs that the result already holds")
    kept.add_argument("--replace", action="store_true", help="the runs that the result already holds")
    parser.add_argument("--images", type=int, default=0, help="one run of shard, each kind of kill twice")
    given = parser.parse_args()
    held = json.loads(RESULT.read_text())["each"] if RESULT.is_file() else []
    if held and not (given.add or given.replace):
        parser.error(f"{RESULT} holds {len(held)} runs: --add keeps them, --replace starts with none")
    earlier = held if given.add else []
    command = " ".join(["python -m tests.chaos.run", *sys.argv[1:]])
    runs = plan(10 * given.kills, random.Random(given.seed))
    settings, stages = LARGER, STAGES
    if given.images:
        runs = [("shard", 2, ["actor", "driver", "raylet", "actor", "raylet", "actor", "driver", "actor"])]
        settings, stages = shard_of(given.images), ("draw_shapes", "shard")
    with tempfile.TemporaryDirectory(prefix="chaos", dir="/tmp") as name:
        folder = given.base or Path(name, "base")
        base = Project(folder) if (folder / "whole").exists() else make(folder, settings, stages)
        (folder / "whole").touch()
        found = chaos(runs, given.kills, given.minutes, given.seed, base, Path(name), command, earlier)
    bad = [name for name in ("orphans", "temporary_files", "trained_again_beyond_checkpoint") if found[name]]
    if bad or found["identical"] != found["runs"]:
        sys.exit(f"not as undisturbed: {bad}, {found['identical']} of {found['runs']} runs identical")


if __name__ == "__main__":
    main()
