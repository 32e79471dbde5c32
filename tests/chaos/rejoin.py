"""A node is lost while two workers train, and comes back: `python -m tests.chaos.rejoin` → more rows of docs/results/chaos.json.

Two workers, one on each node. The second node's raylet is killed: one worker continues from the last checkpoint. The node is
started again: after the next checkpoint two continue. All of this in one command, for both models, in float64. Stackformer must
have the bits of an undisturbed run in one process: a step has two micro-batches, and two numbers have one sum. MQ-VAE must have
its weights to 1e-5, as in the other runs: the order of its sums depends on the number of workers.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.processes import below, title
from tests.chaos.project import LARGER, Project, contents, make
from tests.chaos.run import RESULT, RUN_SECONDS, TITLES, TRAINING, Disturbed, Outcome, summary, write
from tests.chaos.two_nodes import TwoNodes
from workspace.runs import REGROUP

STEPS = {"steps": 300, "validate_every": 150}
"""So many that a group of one is far from its end when it is held."""
SETTINGS = LARGER | {stage: LARGER[stage] | STEPS for stage in ("mqvae", "stackformer")}
STAGES = ("draw_shapes", "shard", "train_mqvae", "tokenize", "train_stackformer")


@dataclass
class Rejoined(Outcome):
    """How it ended: each group's workers and the steps that were done at its start; seconds from the kill to the start of the
    smaller group's training, and from the node's return to that of the larger one."""

    groups: list[dict[str, int]] = field(default_factory=list)
    seconds_to_smaller: float = 0.0
    seconds_to_larger: float = 0.0
    bits: bool = False

    def faults(self) -> list[str]:
        """What is not as it must be."""
        kept = [kill.checkpoint for kill in self.kills]
        starts = [group["steps_done"] for group in self.groups]
        laws = {
            "one kill, one command": len(kept) == self.commands == 1,
            "two workers, then one, then two": [group["workers"] for group in self.groups] == [2, 1, 2],
            "each group continued from the last checkpoint": len(starts) == 3
            and 0 == starts[0] < kept[0] <= starts[1] < starts[2],
            "nothing left behind": not self.orphans and not self.temporary,
            "nothing trained again": not self.trained_again,
            "the undisturbed run's model": self.identical and (self.bits or self.stage == "train_mqvae"),
        }
        return [law for law, holds in laws.items() if not holds]


class Rejoining(Disturbed):
    """One training, whose second node is lost and comes back."""

    def __init__(self, base: Project, folder: Path, nodes: TwoNodes, stage: str, dice: random.Random) -> None:
        super().__init__(base, folder, nodes, stage, 2, dice)
        self.rejoined = self.outcome = Rejoined(stage, 2)

    def rejoin(self) -> Rejoined:
        """Run the command, kill the raylet, start it again, and look at what came out."""
        began = time.monotonic()
        self._start()
        self._until(lambda: bool(self._checkpoints()))
        assert self._kill("raylet"), f"{self.stage} was done before its node was killed"
        kept, lost = self.outcome.kills[-1].checkpoint, time.monotonic()
        self._until(lambda: len(self._attempts()) == 2)
        self.rejoined.seconds_to_smaller = round(time.monotonic() - lost, 1)
        self._until(lambda: max(self._checkpoints(), default=0) > max(kept, self._starts()[1]))
        with self._held():
            self.nodes.ensure_node()
            back = time.monotonic()
            self._until(self._is_asked)
        self._until(lambda: len(self._attempts()) == 3)
        self.rejoined.seconds_to_larger = round(time.monotonic() - back, 1)
        self._end(1)
        self.rejoined.groups = self._attempts()
        self.rejoined.bits = contents(self.project.output(self.stage)) == contents(
            self.base.output(self.stage)
        )
        self.outcome.seconds = round(time.monotonic() - began, 1)
        return self.rejoined

    def _until(self, look: Callable[[], bool]) -> None:
        """Wait while the command runs."""
        deadline = time.monotonic() + RUN_SECONDS
        while not look():
            assert self.process.poll() is None, f"{self.stage} ended too soon:\n{self.project.said()[-3000:]}"
            assert time.monotonic() < deadline, f"{self.stage} hangs:\n{self.project.said()[-3000:]}"
            time.sleep(0.02)

    def _is_asked(self) -> bool:
        """Whether the driver has asked the group to end."""
        run = self.project.run_folder(self.stage)
        return run is not None and (run / "work" / REGROUP).exists()

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Halt the one worker within the block: a node needs longer to start than so small a training takes."""
        (worker,) = [pid for pid in below(self.nodes.head.pid) if title(pid).startswith(TITLES["worker"])]
        os.kill(worker, signal.SIGSTOP)
        try:
            yield
        finally:
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGCONT)


def main() -> None:
    """The command line."""
    argparse.ArgumentParser(
        prog="python -m tests.chaos.rejoin",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args()
    earlier = json.loads(RESULT.read_text())["each"] if RESULT.exists() else []
    command = " ".join(["python -m tests.chaos.rejoin", *sys.argv[1:]])
    outcomes, left = list[Rejoined](), list[int]()
    with tempfile.TemporaryDirectory(prefix="chaos", dir="/tmp") as name:
        base = make(Path(name, "base"), SETTINGS, STAGES)
        nodes = TwoNodes()
        try:
            for number, stage in enumerate(TRAINING):
                folder = Path(name, stage)
                outcomes.append(Rejoining(base, folder, nodes, stage, random.Random(number)).rejoin())
                sys.stderr.write(f"{outcomes[-1]}\n")
                shutil.rmtree(folder)
        finally:
            left = nodes.stop()
    write(summary(outcomes, command, left, earlier))
    faults = {outcome.stage: outcome.faults() for outcome in outcomes if outcome.faults()}
    if left or faults:
        sys.exit(f"not as undisturbed: {faults}, processes left: {left}")


if __name__ == "__main__":
    main()
