"""A small project to disturb: every stage's artifact made once in peace, and copies in which one stage is to be run."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from safetensors.torch import load_file

from tests.committed import ROOT
from tests.waiting import matching
from workspace.fingerprints import CARD
from workspace.settings import read_tree

STAGES = (
    "draw_shapes",
    "shard",
    "reference",
    "train_mqvae",
    "reconstruct",
    "tokenize",
    "train_stackformer",
    "sample",
    "evaluate",
    "report",
)
OUTPUT = {
    "draw_shapes": "shapes",
    "shard": "shards",
    "train_mqvae": "mqvae",
    "reconstruct": "reconstructions",
    "tokenize": "tokens",
    "train_stackformer": "stackformer",
    "sample": "samples",
}
"""Stage → its artifact, where the names differ."""
LARGER = {
    "shapes": {"train": 768, "val": 64},
    "shard": {"samples_per_shard": 16},
    "mqvae": {"steps": 120, "checkpoint_every": 10, "precision": "float64", "validate_every": 60, "log_every": 10},
    "reconstruct": {"split": "train", "batch": 8},
    "tokenize": {"batch": 8},
    "stackformer": {
        "steps": 120,
        "checkpoint_every": 10,
        "precision": "float64",
        "validate_every": 60,
        "log_every": 10,
    },
    "sample": {"num_images": 360, "batch": 10, "samples_per_shard": 10},
}  # fmt: skip
"""presets/tiny.yaml with more shards and steps, so that there is something to disturb."""


@dataclass(frozen=True)
class Project:
    """A folder with params.yaml, dvc.yaml and artifacts; the code stays where it is."""

    folder: Path

    def write_params(
        self, changes: Mapping[str, Mapping[str, Any]], source: Path = ROOT / "presets" / "tiny.yaml"
    ) -> None:
        """A params file with changes."""
        tree = read_tree(source)
        for section, values in changes.items():
            tree[section] |= values
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "params.yaml").write_text(yaml.safe_dump(tree))
        (self.folder / "demo").mkdir(exist_ok=True)
        for name in ("dvc.yaml", "demo/dvc.yaml"):
            shutil.copyfile(ROOT / name, self.folder / name)

    def output(self, stage: str) -> Path:
        """The stage's artifact."""
        return self.folder / "artifacts" / OUTPUT.get(stage, stage)

    def run_folder(self, stage: str) -> Path | None:
        """The stage's newest run, or None."""
        runs = matching(self.folder / ".runs" / stage, "*/run.json")
        return runs[-1].parent if runs else None

    def start(
        self, stage: str, environment: Mapping[str, str] | None = None, log: str = "log"
    ) -> "subprocess.Popen[bytes]":
        """Run the stage's own command, in a session of its own."""
        with (self.folder / log).open("ab") as out:
            return subprocess.Popen(
                [sys.executable, "-m", f"stages.{stage}"],
                cwd=self.folder,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | (environment or {}),
            )

    def said(self, log: str = "log") -> str:
        """What the commands said."""
        return (self.folder / log).read_text(errors="replace")

    def without(self, stage: str, folder: Path, changes: Mapping[str, Mapping[str, Any]]) -> "Project":
        """A copy, with changed params, in which this stage has not run."""
        other = Project(folder)
        other.write_params(changes, self.folder / "params.yaml")
        for part in ("artifacts", "metrics"):
            shutil.copytree(self.folder / part, folder / part, copy_function=os.link)
        shutil.rmtree(other.output(stage), ignore_errors=True)
        shutil.rmtree(folder / "metrics" / stage, ignore_errors=True)
        return other

    def torn(self) -> list[str]:
        """Temporary files and folders that were left."""
        return [
            str(path.relative_to(self.folder))
            for path in self.folder.rglob(".*")
            if path.name != ".runs" or path.parent != self.folder
        ]


def make(folder: Path, changes: Mapping[str, Mapping[str, Any]], stages: Sequence[str] = STAGES) -> Project:
    """Run stages in peace, in one process of one thread each."""
    project = Project(folder)
    project.write_params(changes)
    for stage in stages:
        assert project.start(stage).wait() == 0, project.said()
    return project


def contents(folder: Path) -> dict[str, str]:
    """Relative path → SHA-256 of each file below a folder."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def farthest(one: Path, other: Path) -> float:
    """The largest relative difference between the weights of two trained models whose other files are equal.

    Not the card: it names the manifest's fingerprint and the scores of these weights.
    """
    ours, theirs = contents(one), contents(other)
    differing = {name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)}
    assert differing <= {"model.safetensors", "manifest.json", CARD}, differing
    assert (
        json.loads((one / "manifest.json").read_text()).keys()
        == json.loads((other / "manifest.json").read_text()).keys()
    )
    weights, others = (load_file(folder / "model.safetensors") for folder in (one, other))
    assert weights.keys() == others.keys()
    return max(
        float((weights[name] - others[name]).abs().max() / others[name].abs().max().clamp_min(1e-12))
        for name in weights
    )
