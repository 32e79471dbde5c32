"""Run stages as one arm of an experiment: its settings from experiments/arms.yaml become the stages' own `--set`.

python -m experiments.arm --base shapes --arm random-50 --seed 1 train_mqvae --shards … --out … then reconstruct …

What follows a stage's name is its own command line. The stages run one after the other in this process, so that they share
the import of torch; what holds for a stage (resuming, errors, exit status) holds here.
"""

import argparse
import atexit
import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any

import yaml

from workflow.running import run_stage
from workspace import garbage
from workspace.commands import parser_of
from workspace.errors import UserError, mistakes_in_one_line
from workspace.exact.seeds import seed_argument
from workspace.outputs import put_back
from workspace.settings import STAGES

ARMS = Path("experiments/arms.yaml")
SEEDED = ("mqvae", "tokenize", "stackformer", "sample")
"""The sections whose seed is the arm's."""
THEN = "then"


def settings_of(catalogue: Path, base: str, arm: str, seed: int) -> list[str]:
    """The arm's changes to a params file, the base's first, each `section.key=value`.

    Raises:
        UserError: the catalogue has no such base or arm.
    """
    tree = _parsed(catalogue.read_text(encoding="utf-8"))
    for kind, name in (("bases", base), ("arms", arm)):
        if name not in tree[kind]:
            raise UserError(f"{catalogue}: {name} is not one of its {kind}: {', '.join(tree[kind])}")
    seeds = [f"{section}.seed={seed}" for section in SEEDED]
    return [*changes_of(tree["bases"], base), *tree["arms"][arm], *seeds]


@lru_cache(maxsize=1)  # it is asked for every arm of a table
def _parsed(text: str) -> Any:
    return yaml.safe_load(text)


def changes_of(bases: Mapping[str, Sequence[str]], name: str) -> list[str]:
    """A base's changes; an entry without `=` names another base, whose changes are put in its place."""
    found: list[str] = []
    for entry in bases[name]:
        found += [entry] if "=" in entry else changes_of(bases, entry)
    return found


def command_lines(words: Sequence[str], options: Sequence[str]) -> list[list[str]]:
    """Stage by stage: its name, its own words, the options that all take.

    Raises:
        UserError: a name that is not a stage.
    """
    parts = [list(part) for is_then, part in groupby(words, THEN.__eq__) if not is_then]
    for part in parts:
        if part[0] not in STAGES:
            raise UserError(f"{part[0]} is not a stage; expected one of {', '.join(STAGES)}")
    return [[*part, *options] for part in parts]


def main() -> None:
    """The command line."""
    garbage.collect()  # experiments/__init__.py put it off
    atexit.register(put_back, sys.orig_argv)
    parser = parser_of("experiments.arm", __doc__)
    parser.add_argument("--base", required=True, help="one of `bases` in experiments/arms.yaml")
    parser.add_argument("--arm", required=True, help="one of `arms` in experiments/arms.yaml")
    parser.add_argument(
        "--seed", type=seed_argument, required=True, help="seed of weights, data order, masks and sampling"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="a further change; may be repeated",
    )
    parser.add_argument(
        "--params",
        type=Path,
        default=Path("params.yaml"),
        help="params file that the arm changes (params.yaml)",
    )
    parser.add_argument(
        "stages", nargs=argparse.REMAINDER, help="STAGE with its options, then STAGE with its options …"
    )
    arguments = parser.parse_args()
    from workflow.params import load_params  # after the arguments: `--help` need not wait for it

    with mistakes_in_one_line():
        changes = [*settings_of(ARMS, arguments.base, arguments.arm, arguments.seed), *arguments.set]
        sets = [word for change in changes for word in ("--set", change)]
        load_params(arguments.params, changes)  # each stage looks at its own section alone
        lines = command_lines(arguments.stages, ["--params", str(arguments.params), *sets])
    for line in lines:
        sys.argv = line
        run_stage(line[0])


if __name__ == "__main__":
    main()
