"""The race: a recipe for the demo's shapes, timed from an empty artifacts folder and judged. Rules and records: docs/records.md.

    python -m benchmarks.speedrun --track first --seeds 0,1,2     `make speedrun`; presets/speedrun.yaml
    python -m benchmarks.speedrun --track second                  params.yaml, at most six minutes
    python -m benchmarks.speedrun --judge .                       no race: every figure of a finished folder

Each seed gets a fresh clone of the commit, in which `make repro` runs by itself, installation apart. What is timed is that
command as typed: drawing the data, both trainings, samples, scores, the report. Sampling without guidance comes after, untimed.
docs/results/speedrun_TRACK.json has every figure of every seed; the line for docs/records.md is printed last.
"""

import argparse
import datetime
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks import speedrun_rules as rules
from benchmarks.harness import ROOT, processor
from workspace.commands import parser_of
from workspace.errors import UserError
from workspace.exact.manifest import read_json, write_json
from workspace.exact.seeds import require_seed
from workspace.progress import say
from workspace.settings import read_tree
from workspace.versions import OF_SCORES, versions

BIN = Path(sys.executable).parent
UNGUIDED = ("guidance_scale=1.0", "code.top_p=1.0", "position.top_p=1.0", "code.top_k=0", "position.top_k=0")


@dataclass(frozen=True)
class Entry:
    """A recipe's run: a track, its params file, and the seeds."""

    track: rules.Track
    params: Path
    seeds: tuple[int, ...]


def run_seed(entry: Entry, seed: int, home: Path) -> dict[str, Any]:
    """Clone, run and judge one seed: minutes, seconds by stage, figures.

    Raises:
        UserError: the workflow failed, or something was there before it began.
    """
    folder = home / f"seed-{seed}"
    _run(ROOT, "git", "clone", "-q", "--no-hardlinks", str(ROOT), str(folder))
    (folder / ".venv").symlink_to(BIN.parent)
    # its own, not a cache that users share
    (folder / ".dvc" / "config.local").write_text("[cache]\n    dir = cache\n", "utf-8")
    (folder / "params.yaml").write_text(seeded(read_tree(entry.params), seed), "utf-8")
    rules.check_fresh(folder)
    began = time.monotonic()
    # -o: the clone's pyproject.toml is newer than the environment, which is not part of the race
    _run(folder, "make", "-o", ".venv/installed", "repro")
    minutes = (time.monotonic() - began) / 60
    seconds = {path.parent.name: read_json(path)["seconds"] for path in folder.glob("metrics/*/run.json")}
    return {"minutes": round(minutes, 3), "seconds": seconds, **judged(folder)}


def seeded(recipe: Mapping[str, Any], seed: int) -> str:
    """A params file with this seed in both trainings and in sampling; the data and the judges keep theirs."""
    params = {
        name: section | {"seed": seed} if name in rules.SEEDED else section
        for name, section in recipe.items()
    }
    return str(yaml.safe_dump(params, sort_keys=False))


def judged(folder: Path) -> dict[str, Any]:
    """Every figure of a finished folder: as it was sampled, and without guidance or truncation."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        samples, scores = Path(name) / "samples", Path(name) / "metrics"
        changes = [word for change in UNGUIDED for word in ("--set", f"sample.{change}")]
        _run(folder, "python", "-m", "stages.sample", *changes, "--out", str(samples))
        _run(
            folder, "python", "-m", "stages.evaluate", "--samples", str(samples),
            "--out", str(Path(name) / "evaluation"), "--metrics", str(scores),
        )  # fmt: skip
        unguided = read_json(scores / "metrics.json")
    return {
        "reconstructions": read_json(folder / "metrics" / "reconstruct" / "metrics.json"),
        "samples": read_json(folder / "metrics" / "evaluate" / "metrics.json"),
        "unguided": unguided,
    }


def _run(folder: Path, *command: str) -> str:
    """A command in a folder, with the environment of `make`; what it said where it failed.

    Raises:
        UserError: it failed.
    """
    env = os.environ | {"PYTHONPATH": str(folder), "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stdout + done.stderr)[-2000:]
        raise UserError(f"{' '.join(command)} in {folder} ended with status {done.returncode}:\n{said}")
    return done.stdout


def race(entry: Entry, commit: str, broken: Sequence[str], keep: Path | None = None) -> dict[str, Any]:
    """Run every seed, one after another, on the cores that the rules allow; the record as JSON values.

    Args:
        entry: what runs.
        commit: its name.
        broken: rules that are broken.
        keep: where finished folders are moved to; None removes them.
    """
    cores = rules.keep_to_cores()
    runs = {}
    with tempfile.TemporaryDirectory(prefix="speedrun-") as home:
        for seed in entry.seeds:
            say(f"[speedrun] seed {seed} of {', '.join(map(str, entry.seeds))}")
            runs[str(seed)] = found = run_seed(entry, seed, Path(home))
            say(f"[speedrun] seed {seed}: {found['minutes']:.2f} minutes; {rules.told(rules.figures(found))}")
            if keep is None:
                shutil.rmtree(Path(home) / f"seed-{seed}")
            else:
                shutil.move(Path(home) / f"seed-{seed}", keep / f"seed-{seed}")
    mean = mean_of([rules.figures(found) for found in runs.values()])
    missed = rules.missed(entry.track, mean)
    return {
        "track": entry.track.name,
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "commit": commit,
        "params": read_tree(entry.params),
        "judges": rules.judges_fingerprint(ROOT),
        "machine": {"cores": cores, "processor": processor(), "versions": versions(OF_SCORES)},
        "mean": mean,
        "runs": runs,
        "rules_broken": list(broken),
        "bars_missed": missed,
        "record": not broken and not missed,
    }


def mean_of(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each figure that every run has."""
    names = [name for name in rows[0] if all(name in row for row in rows)]
    return {name: float(np.mean([row[name] for row in rows])) for name in names}


def _parser() -> argparse.ArgumentParser:
    parser = parser_of("benchmarks.speedrun", __doc__)
    parser.add_argument("--track", choices=sorted(rules.TRACKS), default="first", help="which race (first)")
    parser.add_argument(
        "--seeds", default="0,1,2", help="seeds of training and sampling, one run for each (0,1,2)"
    )
    parser.add_argument(
        "--params", type=Path, help="the recipe (first: presets/speedrun.yaml; second: params.yaml)"
    )
    parser.add_argument("--out", type=Path, help="the JSON (docs/results/speedrun_TRACK.json)")
    parser.add_argument(
        "--practice", action="store_true", help="run even if a rule is broken; it then counts as no record"
    )
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="move each seed's finished folder there")
    parser.add_argument(
        "--judge", type=Path, metavar="FOLDER", help="print the figures of a finished folder, and stop"
    )
    return parser


def _entry(arguments: argparse.Namespace) -> Entry:
    track = rules.TRACKS[arguments.track]
    params = arguments.params or ROOT / track.params
    if not params.is_file():
        raise UserError(f"{params} does not exist; expected the recipe, a params file (--params)")
    try:
        seeds = tuple(require_seed(int(seed)) for seed in arguments.seeds.split(","))
    except ValueError as error:
        raise UserError(f"--seeds is {arguments.seeds}; expected whole numbers from 0 on, 0,1,2") from error
    return Entry(track, params, seeds)


def main() -> None:
    """Judge a folder, or run a race: JSON, then the line for docs/records.md."""
    arguments = _parser().parse_args()
    try:
        if arguments.judge:
            say(rules.told(rules.figures(judged(arguments.judge.resolve()))))
            return
        entry = _entry(arguments)
        if arguments.keep is not None:
            arguments.keep.mkdir(parents=True, exist_ok=True)
        broken = rules.broken(ROOT, entry.track, entry.params, entry.seeds)
        if broken and not arguments.practice:
            raise UserError(
                f"no record can come of this: {'; '.join(broken)}. To run it all the same: --practice"
            )
        found = race(entry, _run(ROOT, "git", "rev-parse", "--short", "HEAD").strip(), broken, arguments.keep)
    except UserError as error:
        sys.exit(f"[speedrun] {error}")
    out = arguments.out or ROOT / "docs" / "results" / f"speedrun_{entry.track.name}.json"
    write_json(out, found)
    say(f"[speedrun] → {out}")
    say(rules.line(found))


if __name__ == "__main__":
    main()
