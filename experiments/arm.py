"""Run a stage as one arm of an experiment: its settings from experiments/arms.yaml become the stage's own `--set`.

python -m experiments.arm train_mqvae --base shapes --arm random-50 --seed 1 --shards … --out …

What follows the arm is the stage's own command line. This process becomes the stage, so that what holds for a stage (resuming,
errors, exit status) holds for an arm.
"""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from workspace.errors import UserError
from workspace.settings import STAGES

ARMS = Path("experiments/arms.yaml")
SEEDED = ("mqvae", "tokenize", "stackformer", "sample")
"""The sections whose seed is the arm's."""


def settings_of(catalogue: Path, base: str, arm: str, seed: int) -> list[str]:
    """The arm's changes to a params file, the base's first, each `section.key=value`.

    Raises:
        UserError: the catalogue has no such base or arm.
    """
    tree = yaml.safe_load(catalogue.read_text(encoding="utf-8"))
    for kind, name in (("bases", base), ("arms", arm)):
        if name not in tree[kind]:
            raise UserError(f"{catalogue}: {name} is not one of its {kind}: {', '.join(tree[kind])}")
    seeds = [f"{section}.seed={seed}" for section in SEEDED]
    return [*tree["bases"][base], *tree["arms"][arm], *seeds]


def command_of(stage: str, changes: Sequence[str], options: Sequence[str]) -> list[str]:
    """The stage's own command."""
    sets = [word for change in changes for word in ("--set", change)]
    return [sys.executable, "-m", f"stages.{stage}", *options, *sets]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.arm",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--base", required=True, help="of experiments/arms.yaml, bases")
    parser.add_argument("--arm", required=True, help="of experiments/arms.yaml, arms")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--show", action="store_true", help="say the stage's command instead of running it")
    arguments, options = parser.parse_known_args()
    try:
        changes = settings_of(ARMS, arguments.base, arguments.arm, arguments.seed)
    except UserError as error:
        sys.exit(f"[{arguments.stage}] {error}")
    command = command_of(arguments.stage, changes, options)
    if arguments.show:
        sys.stdout.write(shlex.join(command) + "\n")
        return
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
