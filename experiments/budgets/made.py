"""Data, trainings and samples of the experiment, made by the stages where they are missing."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.mqvae import MQVAE
from workspace.exact.manifest import read_json

PHOTOGRAPHS = ("flowers", "faces")
SIDE = 32
"""Pixels per side, of photographs too: L = 64 and the cost of a step are the demo's."""


@dataclass(frozen=True)
class Training:
    """An MQ-VAE.

    Attributes:
        data: shapes, flowers or faces.
        kept: mqvae.model.kept.
        mask_ratio: its N, or where it is validated.
        steps: of training.
        seed: of weights, order and N.
        changes: other settings, as `--set` takes them.
    """

    data: str
    kept: str
    mask_ratio: float
    steps: int
    seed: int = 0
    changes: tuple[str, ...] = ()

    @property
    def folder(self) -> str:
        """Its name in the working folder."""
        own = "".join(
            letter for change in self.changes for letter in change.split(".")[-1] if letter.isalnum()
        )
        return f"{self.data}-{self.kept}-{round(100 * self.mask_ratio)}-{self.steps}-{self.seed}{'-' if own else ''}{own}"


@dataclass(frozen=True)
class Made:
    """A folder in which finished artifacts are kept, so that a killed run is resumed.

    Attributes:
        work: the folder.
        photographs: folder of `flowers` and `faces`.
        weights: folder of SqueezeNet's weights and of LPIPS's heads.
    """

    work: Path
    photographs: Path
    weights: Path

    def run(self, stage: str, out: str, *options: str, inputs: Mapping[str, Path] | None = None) -> Path:
        """A stage by hand, unless its artifact is there; its metrics are in OUT-metrics."""
        folder, metrics = self.work / out, self.work / f"{out}-metrics"
        if not (folder / "manifest.json").is_file():
            paths = [word for name, path in (inputs or {}).items() for word in (f"--{name}", str(path))]
            sets = [word for change in ("compute.workers=0", *options) for word in ("--set", change)]
            command = [sys.executable, "-m", f"stages.{stage}", *paths, *sets]
            measured = [] if stage == "draw_shapes" else ["--metrics", str(metrics)]
            subprocess.run([*command, *measured, "--out", str(folder)], check=True)
        return folder

    def metrics(self, out: str) -> dict[str, Any]:
        """What a stage measured."""
        found: dict[str, Any] = read_json(self.work / f"{out}-metrics" / "metrics.json")
        return found

    def shards(self, data: str) -> Path:
        """Image shards of a data set, 32 px."""
        if data == "shapes":
            return self.run("shard", "shapes-shards", f"shard.source={self.run('draw_shapes', 'shapes')}")
        kind = (
            ("folder", "shard.val_fraction=0.05")
            if data == "faces"
            else ("class_folder", "shard.val_fraction=0.15")
        )
        source = f"shard.source={self.photographs / data}"
        size = f"shard.image_size={SIDE}"
        return self.run("shard", f"{data}-shards", source, size, f"shard.kind={kind[0]}", kind[1])

    def reference(self, data: str) -> Path:
        """Features of its images: a classifier of the drawn shapes, SqueezeNet of photographs."""
        network = (
            "reference.features=squeezenet",
            f"reference.weights={self.weights / 'squeezenet1_1.safetensors'}",
        )
        options = () if data == "shapes" else network
        return self.run("reference", f"{data}-reference", *options, inputs={"shards": self.shards(data)})

    def mqvae(self, training: Training) -> MQVAE:
        """A trained MQ-VAE."""
        return MQVAE.from_pretrained(self.mqvae_folder(training))

    def mqvae_folder(self, training: Training) -> Path:
        """Its artifact."""
        options = [
            f"mqvae.model.kept={training.kept}",
            f"mqvae.model.mask_ratio={training.mask_ratio}",
            f"mqvae.steps={training.steps}",
            f"mqvae.validate_every={training.steps}",
            f"mqvae.seed={training.seed}",
            *(
                []
                if training.data == "shapes"
                else ["mqvae.exploration.noise=0", "mqvae.model.num_codes=256"]
            ),
            *training.changes,
        ]
        return self.run(
            "train_mqvae", training.folder, *options, inputs={"shards": self.shards(training.data)}
        )

    def lpips(self) -> Sequence[str]:
        """Settings of LPIPS in tokenize."""
        backbone, heads = (
            self.weights / "squeezenet1_1.safetensors",
            self.weights / "lpips_squeeze_v0.1.safetensors",
        )
        return (
            "tokenize.lpips.network=squeezenet",
            f"tokenize.lpips.backbone={backbone}",
            f"tokenize.lpips.heads={heads}",
        )
