"""The race's rules as code: which data and judges, what a clone may hold before it starts, the bars, and a record's line."""

import hashlib
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.drawing import KINDS
from workspace.errors import UserError
from workspace.settings import read_tree

SEEDED = ("mqvae", "stackformer", "sample")
CORES = 2
SEEDS = 3
SAME: Mapping[str, Mapping[str, Any]] = {
    "shapes": {
        "seed": 0,
        "image_size": 32,
        "train": 8000,
        "val": 900,
        "radius": [0.32, 0.44],
        "texture_contrast": 0.2,
        "rotation": 15.0,
    },
    "shard": {"kind": "shapes", "source": "artifacts/shapes", "image_size": 32, "format": "png"},
    "reference": {
        "features": "proxy",
        "weights": None,
        "fid_split": "val",
        "max_images": 3000,
        "seed": 0,
        "proxy": {"width": 24, "batch": 64, "steps": 400, "learning_rate": 3.0e-3, "softened": 0.5},
    },
    "reconstruct": {"split": "val", "seed": 0},
    "sample": {"num_images": 900, "classes": "all"},
    "evaluate": {"num_images": None, "seed": 0},
    "mqvae": {"init_from": None},
    "stackformer": {"init_from": None, "condition": "class"},
}
"""Settings that all recipes share: the data, its size, the scorers, and no weights from elsewhere."""
NEW = ("artifacts", ".runs", ".dvc/cache", ".dvc/tmp/rwlock")
"""Paths that a clone must not contain before it starts."""
JUDGES = (
    "evaluation/*.py",
    "demo/*.py",
    "stages/reference.py",
    "stages/reconstruct.py",
    "stages/evaluate.py",
)


@dataclass(frozen=True)
class Track:
    """A race.

    Attributes:
        name: first or second.
        params: the recipe's params file.
        at_least: figure → bar, met by the mean over the seeds.
        minutes: at most, on average; None where the fewest win.
    """

    name: str
    params: str
    at_least: Mapping[str, float]
    minutes: float | None


TRACKS = {
    "first": Track("first", "presets/speedrun.yaml", {"psnr": 24.7, "as_asked": 0.75}, None),
    "second": Track("second", "params.yaml", {}, 6.0),
}
COLUMNS = {
    "psnr": "PSNR, dB",
    "auc_smooth": "AUC smooth",
    "auc_textured": "AUC textured",
    "as_asked": "as asked",
    "as_asked_worst": "worst class",
    "as_asked_unguided": "unguided",
    "shape_fit": "`shape_fit`",
    "shape_fit_worst": "worst class",
    "shape_edge_fit": "`shape_edge_fit`",
    "shape_fit_reconstructions": "`shape_fit`, reconstructions",
    "proxy_fd": "`proxy_fd`",
    "proxy_rfd": "`proxy_rfd`",
    "grid_cells": "grid, cells",
    "grid_stem": "grid, stem",
    "grid_cells_samples": "grid, cells, samples",
}
"""Figures in the order of a record's line → the column's title in docs/records.md."""
DECIMALS = {"psnr": 2, "proxy_fd": 1, "proxy_rfd": 1}


def figures(found: Mapping[str, Any]) -> dict[str, float]:
    """The judged figures of one run, in the order of a record's line; those that it lacks are left out."""
    back, made, free = found["reconstructions"], found["samples"], found["unguided"]
    rows = {
        "minutes": found.get("minutes"),
        "psnr": back.get("psnr"),
        "auc_smooth": back.get("mask_auc_smooth"),
        "auc_textured": back.get("mask_auc_textured"),
        "as_asked": made.get("proxy_accuracy"),
        "as_asked_worst": worst(made, "proxy_accuracy"),
        "as_asked_unguided": free.get("proxy_accuracy"),
        "shape_fit": made.get("shape_fit"),
        "shape_fit_worst": worst(made, "shape_fit"),
        "shape_edge_fit": made.get("shape_edge_fit"),
        "shape_fit_unguided": free.get("shape_fit"),
        "shape_fit_reconstructions": back.get("shape_fit"),
        "proxy_fd": made.get("proxy_fd"),
        "proxy_fd_unguided": free.get("proxy_fd"),
        "proxy_rfd": back.get("proxy_rfd"),
        "grid_cells": back.get("grid_ratio_cells_to_real"),
        "grid_stem": back.get("grid_ratio_stem_to_real"),
        "grid_cells_samples": made.get("grid_ratio_cells_to_real"),
        "grid_stem_samples": made.get("grid_ratio_stem_to_real"),
    }
    return {name: float(value) for name, value in rows.items() if value is not None}


def worst(numbers: Mapping[str, float], name: str) -> float | None:
    """The lowest of the kinds' own."""
    return min((numbers[f"{name}_{kind}"] for kind in KINDS if f"{name}_{kind}" in numbers), default=None)


def told(found: Mapping[str, float]) -> str:
    """Figures in a line."""
    return ", ".join(f"{name} {value:.{DECIMALS.get(name, 3)}f}" for name, value in found.items())


def missed(track: Track, mean: Mapping[str, float]) -> list[str]:
    """The track's bars that the mean over the seeds does not reach."""
    found = [
        f"{name} is {mean.get(name, float('nan')):.3f}, expected at least {bar}"
        for name, bar in track.at_least.items()
        if not mean.get(name, float("-inf")) >= bar
    ]
    if track.minutes is not None and mean["minutes"] > track.minutes:
        found.append(f"minutes is {mean['minutes']:.2f}, expected at most {track.minutes:g}")
    return found


def broken(root: Path, track: Track, params: Path, seeds: Sequence[int]) -> list[str]:
    """The rules that an entry breaks before it has run, a sentence each."""
    found = []
    changed = _git(root, "status", "--porcelain").splitlines()
    if changed:
        found.append(f"the working tree differs from its commit in {len(changed)} files ({changed[0][3:]})")
    if params.resolve() != (root / track.params).resolve():
        found.append(f"the recipe is {params}, expected the committed {track.params}")
    if len(set(seeds)) < SEEDS:
        found.append(f"seeds are {', '.join(map(str, seeds))}, expected {SEEDS} different ones")
    cores = len(os.sched_getaffinity(0))
    if cores < CORES:
        found.append(f"there are {cores} CPU cores, expected {CORES}")
    return found + _unlike_the_race(read_tree(params))


def _unlike_the_race(values: Mapping[str, Any]) -> list[str]:
    found = []
    for section, settings in SAME.items():
        for name, wanted in settings.items():
            given = values.get(section, {}).get(name)
            if given != wanted:
                found.append(f"{section}.{name} is {given}, in the race {wanted}")
    for place, network in (("mqvae.perceptual", values["mqvae"]["perceptual"]["network"]),):
        if network != "none":
            found.append(f"{place}.network is {network}: weights from elsewhere")
    return found


def check_fresh(folder: Path) -> None:
    """UserError where a clone holds anything made before."""
    there = [name for name in NEW if (folder / name).exists()]
    if there:
        raise UserError(f"{folder} holds {', '.join(there)} before it starts: artifacts are not fresh")


def keep_to_cores() -> int:
    """Restrict this process and its children to two CPU cores; returns the number of cores then."""
    allowed = sorted(os.sched_getaffinity(0))[:CORES]
    os.sched_setaffinity(0, allowed)
    return len(allowed)


def judges_fingerprint(root: Path) -> str:
    """SHA-256 of the judges' code, 12 digits: records of other judges are not compared."""
    digest = hashlib.sha256()
    for path in sorted(path for pattern in JUDGES for path in root.glob(pattern)):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def line(found: Mapping[str, Any]) -> str:
    """The row of docs/records.md, or why there is none."""
    if not found["record"]:
        return f"[speedrun] no record: {'; '.join([*found['rules_broken'], *found['bars_missed']])}"
    mean, seeds = found["mean"], ", ".join(found["runs"])
    cells = [f"{mean[name]:.{DECIMALS.get(name, 3)}f}" if name in mean else "–" for name in COLUMNS]
    return (
        f"| {found['date']} | {found['commit']} | {mean['minutes']:.2f} | {seeds} | {' | '.join(cells)} | |"
    )


def _git(root: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"{root} is not a git repository: a record names a commit")
    return done.stdout
