"""One model of the showcase, from image shards to a grid of samples, in the time there is (started by `benchmarks.gpu.showcase`).

Runs the stages' own `run` in this process. How many steps each training gets follows from a short trial of it.
"""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu.notes import keep_json, tell
from benchmarks.gpu.phase import Place
from benchmarks.gpu.science import plain_numbers, rate_of
from benchmarks.gpu.stages import PRESETS, TINY, facts_of, machine_sets, perception_sets, shards_for
from workflow.params import Params, load_params
from workflow.stage import stage_named
from workspace.commands import parser_of
from workspace.runs import RunFolder

TRIAL_STEPS = 40
MQVAE_SHARE, STACKFORMER_SHARE = 0.42, 0.75
"""Share of the remaining time for a training."""


@dataclass(frozen=True)
class Portrait:
    """A training.

    Attributes:
        data: name of the image shards.
        size: their pixels per side.
        preset: of presets/.
        changes: to it.
    """

    data: str
    size: int
    preset: str
    changes: tuple[str, ...]


COMMON = (
    "compute.loader_workers=3",
    "mqvae.precision=bf16",
    "mqvae.global_batch=32",
    "mqvae.micro_batch=32",
    "mqvae.learning_rate=1.0e-3",
    "mqvae.warmup_steps=50",
    "mqvae.model.channels=64",
    "mqvae.model.num_codes=512",
    "mqvae.model.mask_ratio=0.5",
    "tokenize.augmentations=[{flip: false}, {flip: true}]",
    "stackformer.precision=bf16",
    "stackformer.learning_rate=4.0e-3",
    "stackformer.warmup_steps=100",
    "stackformer.global_batch=64",
    "stackformer.micro_batch=64",
    "stackformer.model.width=384",
    "stackformer.model.heads=6",
    "stackformer.model.code_layers=8",
    "stackformer.model.position_layers=3",
    "stackformer.model.dropout=0.1",
    "sample.num_images=64",
    "sample.batch=64",
    "sample.samples_per_shard=64",
    "sample.precision=bf16",
)
F4, F8 = "mqvae.model.channel_multipliers=[1, 2]", "mqvae.model.channel_multipliers=[1, 2, 2]"
PORTRAITS = {
    "faces-64": Portrait("faces", 64, "faces", (*COMMON, F4)),
    "flowers-64": Portrait("flowers", 64, "flowers", (*COMMON, F4)),
    "faces-128": Portrait("faces", 128, "faces", (*COMMON, F8)),
    "flowers-128": Portrait("flowers", 128, "flowers", (*COMMON, F8)),
}
"""Name → what; unconditional faces and class-conditional flowers, at a 16 × 16 grid."""


@dataclass(frozen=True)
class Sitting:
    """A portrait in the making.

    Attributes:
        place: where.
        portrait: what.
        shards: its images.
        folder: of its files.
    """

    place: Place
    portrait: Portrait
    shards: Path
    folder: Path

    def params(self, *changes: str) -> Params:
        """The preset with all changes."""
        size, grid = facts_of(self.shards)["image_size"], 4 if self.place.tiny else 16
        levels = 3 if F8 in self.portrait.changes else 2
        patch_size = max(1, size // grid // 2 ** (levels - 1))
        sizes = [
            f"shard.image_size={size}",
            f"mqvae.model.image_size={size}",
            f"mqvae.model.patch_size={patch_size}",
        ]
        tiny = TINY if self.place.tiny else ()
        sets = [
            *self.portrait.changes,
            *machine_sets(self.place),
            *perception_sets(self.place, self.shards),
            *tiny,
            *sizes,
        ]
        if facts_of(self.shards)["classes"] is None:
            sets += ["stackformer.condition=none", "stackformer.cfg_dropout=0.0", "sample.guidance_scale=1.0"]
        return load_params(PRESETS / f"{self.portrait.preset}.yaml", [*sets, *changes])

    def run(self, name: str, label: str, params: Params, **inputs: Path) -> RunFolder:
        """A stage's own `run`, in a folder of its own."""
        stage = stage_named(name)
        folder = RunFolder(self.folder / label)
        shutil.rmtree(folder.root, ignore_errors=True)
        for part in (folder.out, folder.metrics, folder.work):
            part.mkdir(parents=True)
        stage.run(params.section(stage.settings), params.compute, stage.inputs(**inputs), folder)
        tell(f"{self.portrait.data}: {label}, {self.place.left:.0f} s are left")
        return folder

    def trained(self, section: str, share: float, **inputs: Path) -> RunFolder:
        """A training for a share of the time that is left."""
        steps = 2
        if not self.place.tiny:
            began = time.time()
            trial = self.run(
                f"train_{section}", f"trial_{section}", self.params(*lengths(section, TRIAL_STEPS)), **inputs
            )
            took = time.time() - began
            rate = rate_of(trial.metrics)
            steps = max(TRIAL_STEPS, int(rate * (share * self.place.left - (took - TRIAL_STEPS / rate) / 2)))
        return self.run(f"train_{section}", section, self.params(*lengths(section, steps)), **inputs)


def lengths(section: str, steps: int) -> list[str]:
    """A training's steps and what follows from them."""
    found = [f"{section}.{key}={steps}" for key in ("steps", "validate_every", "checkpoint_every")]
    return found + ([f"mqvae.quantize_start={max(1, steps // 10)}"] if section == "mqvae" else [])


def sit(sitting: Sitting) -> None:
    """Train both models, draw; the numbers so far are kept after each."""
    found: dict[str, Any] = {
        "images": facts_of(sitting.shards)["counts"],
        "size": facts_of(sitting.shards)["image_size"],
    }

    def keep(name: str, run: RunFolder) -> None:
        path = run.metrics / "metrics.json"
        found[name] = (plain_numbers(path) if path.is_file() else {}) | {"left": round(sitting.place.left, 1)}
        keep_json(sitting.folder / "found.json", found)

    mqvae = sitting.trained("mqvae", MQVAE_SHARE, shards=sitting.shards)
    keep("mqvae", mqvae)
    for picture in sorted((mqvae.metrics / "pictures").glob("*.png")):
        shutil.copyfile(picture, sitting.folder / "reconstructions.png")
    tokens = sitting.run("tokenize", "tokens", sitting.params(), shards=sitting.shards, mqvae=mqvae.out)
    keep("tokens", tokens)
    stackformer = sitting.trained("stackformer", STACKFORMER_SHARE, tokens=tokens.out)
    keep("stackformer", stackformer)
    samples = sitting.run("sample", "samples", sitting.params(), stackformer=stackformer.out, mqvae=mqvae.out)
    keep("samples", samples)
    shutil.copyfile(samples.out / "grid.png", sitting.folder / "samples.png")


def main() -> None:
    """The command line."""
    parser = parser_of("benchmarks.gpu.portrait", __doc__)
    parser.add_argument("name", choices=list(PORTRAITS), help="which one")
    parser.add_argument("--out", type=Path, required=True, help="folder for its files")
    parser.add_argument("--device", choices=["cuda", "cpu"], required=True, help="where to compute")
    parser.add_argument("--deadline", type=float, required=True, help="seconds since the epoch")
    parser.add_argument("--tiny", action="store_true", help="use the sizes of a rehearsal")
    parser.add_argument("--shards", type=Path, help="folder with image shards NAME-SIZE")
    parser.add_argument("--weights", type=Path, help="folder with SqueezeNet's weights and LPIPS heads")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    place = Place(
        given.device, given.tiny, given.out, Path.cwd(), given.shards, given.weights, given.deadline
    )
    portrait = PORTRAITS[given.name]
    sit(Sitting(place, portrait, shards_for(place, portrait.data, portrait.size), given.out))


if __name__ == "__main__":
    main()
