"""Phase d: both halves of Tables 6 and 7 on photographs at 64 px and a 16 × 16 grid, three seeds, many trainings side by side.

The arms, their settings and the tables are the workflow's own (experiments/arms.yaml, base `gpu`; experiments/table.py). A trial
with a few steps says how fast that many trainings are beside each other; all arms then get the same number of steps, as many as
there is time for. Seed by seed, so that a cut leaves whole seeds, and a table of what is whole.
"""

import csv
import shutil
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from benchmarks.gpu.notes import Notes, tell
from benchmarks.gpu.phase import Item, Place
from benchmarks.gpu.stages import (
    PRESETS,
    ROOT,
    TINY,
    Ended,
    Program,
    facts_of,
    machine_sets,
    perception_sets,
    setting,
    shards_for,
    side_by_side,
    stage,
    width_of,
)
from experiments.table import COLUMNS, counted, needed_of, numbers_of, reduced, rendered
from workspace.exact.manifest import read_json

BASE, TABLES = "gpu", ("table6", "table7")
DATA, SIZE = "faces", 64
TRIAL_STEPS, TRIAL_SECONDS = 100, 100.0
"""How long a trial is, and what it may take."""
FEWEST, MOST = 60, 5000
"""Steps of a training."""
ENDING_SECONDS = 8.0
"""Kept for the tables."""
SCORING_SECONDS = 6.0
"""Seconds for an arm's two scorings, which the trial skips."""


def items(place: Place) -> list[Item]:
    """Data and reference beside the trial; the arms; the tables."""
    return [
        Item("trial", trial, 120, least=30 if not place.tiny else 2),
        Item("arms", arms, 3600, least=5),
        Item("tables", tables, 30, least=0),
    ]


def tables_of() -> dict[str, dict[str, Any]]:
    """The two tables, on this base."""
    found = {}
    for name in TABLES:
        table = yaml.safe_load((ROOT / "experiments" / name / "params.yaml").read_text(encoding="utf-8"))
        found[name] = table | {"base": BASE, "title": f"{table['title']}, {SIZE} px"}
    return found


def catalogue() -> Mapping[str, Any]:
    """experiments/arms.yaml."""
    found: dict[str, Any] = yaml.safe_load((ROOT / "experiments" / "arms.yaml").read_text(encoding="utf-8"))
    return found


def plan(place: Place) -> list[tuple[str, int]]:
    """The arms and seeds to train, in order, seed by seed."""
    names = list(dict.fromkeys(arm for table in tables_of().values() for arm in table["trained"]))
    seeds = catalogue()["seeds"][BASE]
    if place.tiny:
        names, seeds = ["vqgan", "adaptive-50"], seeds[:1]
    return [(name, seed) for seed in seeds for name in names]


def generated(arm: str) -> bool:
    """Whether an arm gets a Stackformer."""
    return any(arm in table["generated"] for table in tables_of().values())


def folders(place: Place) -> dict[str, Path]:
    """Paths."""
    return {name: place.work / "science" / name for name in ("reference", "runs", "trial")}


def common(place: Place, shards: Path, steps: int) -> list[str]:
    """Changes that all arms share, beyond those of their base."""
    size = facts_of(shards)["image_size"]
    grid = 4 if place.tiny else 16
    sizes = [
        f"shard.image_size={size}",
        f"mqvae.model.image_size={size}",
        f"mqvae.model.patch_size={size // grid // 2}",
    ]
    often = [
        f"{section}.{key}={steps}"
        for section in ("mqvae", "stackformer")
        for key in ("validate_every", "checkpoint_every")
    ]
    lengths = [
        f"mqvae.steps={steps}",
        f"stackformer.steps={steps}",
        f"mqvae.quantize_start={max(1, steps // 10)}",
    ]
    tiny = TINY if place.tiny else ()
    return [*machine_sets(place), *perception_sets(place, shards), *tiny, *sizes, *lengths, *often]


def arm_program(
    place: Place, shards: Path, arm: str, seed: int, steps: int, parts: Sequence[str], folder: Path
) -> Program:
    """The stages of one arm, one after the other in one process."""
    reference = str(folders(place)["reference"])
    reads = {
        "train_mqvae": ["--shards", str(shards)],
        "reconstruct": ["--shards", str(shards), "--reference", reference, "--mqvae", str(folder / "mqvae")],
        "tokenize": ["--shards", str(shards), "--mqvae", str(folder / "mqvae")],
        "train_stackformer": ["--tokens", str(folder / "tokens")],
        "sample": ["--stackformer", str(folder / "stackformer"), "--mqvae", str(folder / "mqvae")],
        "evaluate": ["--samples", str(folder / "samples"), "--reference", reference],
    }
    writes = {"train_mqvae": "mqvae", "reconstruct": "reconstructions", "tokenize": "tokens", "train_stackformer": "stackformer",
              "sample": "samples", "evaluate": "evaluation"}  # fmt: skip
    words = [
        sys.executable,
        "-m",
        "experiments.arm",
        *setting(PRESETS / "faces.yaml", common(place, shards, steps)),
    ]
    words += ["--base", BASE, "--arm", arm, "--seed", str(seed)]
    for number, part in enumerate(parts):
        outs = ["--out", str(folder / writes[part]), "--metrics", str(folder / "metrics" / part)]
        words += [*(["then"] if number else []), part, *reads[part], *outs]
    return Program(f"{folder.parent.parent.name}-{arm}-{seed}", words)


def trial(place: Place) -> dict[str, Any]:
    """Prepare the reference and meanwhile measure the speed of concurrent trainings, which determines the steps."""
    link_experiments(place)
    shards, where, width = shards_for(place, DATA, SIZE), folders(place), width_of(place)
    shutil.rmtree(where["trial"], ignore_errors=True)
    changes = [*common(place, shards, FEWEST), "reference.fid_split=train"]
    changes += [] if place.tiny else ["reference.max_images=3000"]
    paths = ["--shards", str(shards), "--out", str(where["reference"])]
    programs = [Program("reference", stage("reference", *paths, *setting(PRESETS / "faces.yaml", changes)))]
    parts = ["train_mqvae", "tokenize", "train_stackformer", "sample"]
    steps = 2 if place.tiny else TRIAL_STEPS
    if not place.tiny:
        programs += [
            arm_program(
                place,
                shards,
                "adaptive-50",
                number,
                steps,
                parts,
                where["trial"] / "adaptive-50" / str(number),
            )
            for number in range(width)
        ]
    until = place.deadline if place.tiny else min(place.deadline, time.time() + TRIAL_SECONDS)
    ended = side_by_side(programs, place, width + 1, until)
    if not ended["reference"].ok:
        raise RuntimeError(f"reference: {ended['reference'].tail}")
    if place.tiny:
        return {"steps": steps, "width": width}
    return chosen_steps(place, ended, steps, width)


def chosen_steps(place: Place, ended: Mapping[str, Ended], steps: int, width: int) -> dict[str, Any]:
    """How many steps all arms can have in the time that is left."""
    where = folders(place)["trial"]
    trials = {
        number: ended[name] for number in range(width) if (name := f"trial-adaptive-50-{number}") in ended
    }
    went_well = [number for number, result in trials.items() if result.ok]
    if not went_well:
        raise RuntimeError(f"no training of the trial went well: {next(iter(trials.values())).tail}")
    rates = {
        name: statistics.median(
            rate_of(where / "adaptive-50" / str(number) / "metrics" / name) for number in went_well
        )
        for name in ("train_mqvae", "train_stackformer")
    }
    whole = statistics.median(trials[number].seconds for number in went_well)
    overhead = max(1.0, whole - sum(steps / rate for rate in rates.values())) + SCORING_SECONDS
    work = plan(place)
    with_samples = sum(generated(arm) for arm, _ in work)
    seconds = width * (place.left - ENDING_SECONDS) * 0.85 - len(work) * overhead
    a_step = len(work) / rates["train_mqvae"] + with_samples / rates["train_stackformer"]
    count = int(min(MOST, max(FEWEST, seconds / a_step)))
    return {
        "steps": count,
        "width": width,
        "steps_per_second": rates,
        "overhead_seconds": overhead,
        "trial_seconds": whole,
    }


def rate_of(metrics: Path) -> float:
    """Steps per second at the end of a training, as its curves tell."""
    with (metrics / "curves.tsv").open(encoding="utf-8") as file:
        last = list(csv.DictReader(file, delimiter="\t"))[-1]
    batch = read_json(metrics / "protocol.json")["settings"]["global_batch"]
    return float(last["samples_per_second"]) / float(batch)


def arms(place: Place) -> dict[str, Any]:
    """Train, score and sample every arm; what each found is noted when it ends."""
    link_experiments(place)
    notes, runs = Notes(place.out, "science"), folders(place)["runs"]
    first = notes.read()["items"].get("trial", {})
    steps, width = first.get("steps", FEWEST), first.get("width", width_of(place))
    shards = shards_for(place, DATA, SIZE)
    programs = []
    for arm, seed in plan(place):
        parts = ["train_mqvae", "reconstruct"]
        parts += ["tokenize", "train_stackformer", "sample", "evaluate"] if generated(arm) else []
        programs.append(arm_program(place, shards, arm, seed, steps, parts, runs / arm / str(seed)))
    found: dict[str, Any] = {}

    def note(name: str, result: Ended) -> None:
        told = {"seconds": round(result.seconds, 1), "status": result.status}
        found[name] = told if result.ok else told | {"tail": result.tail}
        notes.keep("arms", {"runs": found, "steps": steps})
        tell(f"science/{name}: {'done' if result.ok else 'status ' + str(result.status)}")

    side_by_side(programs, place, width, place.deadline - ENDING_SECONDS, note)
    done = [name for name, result in found.items() if result["status"] == 0]
    return {"runs": found, "steps": steps, "planned": len(programs), "done": len(done), "ok": bool(done)}


def link_experiments(place: Place) -> None:
    """The arms are read from experiments/ of the current folder."""
    target = place.work / "experiments"
    if not target.exists():
        target.symlink_to(ROOT / "experiments")


def tables(place: Place) -> dict[str, Any]:
    """Both tables of the seeds that are whole; where none is, of the first seed's arms that are; and every number."""
    runs, found = folders(place)["runs"], dict[str, Any]()
    seeds = catalogue()["seeds"][BASE]
    for name, table in tables_of().items():
        rows = [row["arm"] for row in table["rows"]]
        whole = [seed for seed in seeds if all(is_whole(table, runs, arm, seed) for arm in rows)]
        some = rows if whole else [arm for arm in rows if is_whole(table, runs, arm, seeds[0])]
        if not some:
            found[name] = {"error": "no arm is whole"}
            continue
        value, text = rendered(reduced(table, some), whole or seeds[:1], runs)
        found[name] = {"table": value, "markdown": text, "orderings": counted(value["orderings"])}
    found["numbers"] = {
        path.relative_to(runs).parent.as_posix(): plain_numbers(path)
        for path in sorted(runs.glob("*/*/metrics/*/metrics.json"))
    }
    pictures(place)
    return found | {"ok": all("table" in found[name] for name in TABLES)}


def is_whole(table: Mapping[str, Any], runs: Path, arm: str, seed: int) -> bool:
    """Whether a run has every number that its row needs."""
    folder = runs / arm / str(seed)
    return all(numbers_of(folder, COLUMNS[name]) is not None for name in needed_of(table, arm))


def plain_numbers(path: Path) -> dict[str, float]:
    """A stage's numbers."""
    return {name: value for name, value in read_json(path).items() if isinstance(value, (int, float))}


def pictures(place: Place) -> None:
    """Reconstructions and samples of the first seed of each arm, smallest names first in the archive."""
    runs = folders(place)["runs"]
    for path in sorted(runs.glob("*/*/*/*.png")):
        arm, seed, kind = path.relative_to(runs).parts[:3]
        if path.name in ("figure4.png", "grid.png") and seed == "0":
            shutil.copyfile(path, place.work / "pictures" / f"table-{arm}-{kind}.png")
    tell(f"science: pictures at {time.strftime('%H:%M:%S')}")
