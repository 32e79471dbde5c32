"""train_mqvae: image shards → a trained MQ-VAE (paper section 3.2, Eq. 1-8).

Reads   image shards
Writes  model.safetensors (EMA weights, codebook) and config.json; curves and pictures in metrics/train_mqvae
Params  mqvae
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from cluster.training import WorkerGroup, fit
from evaluation.lpips import LPIPSConfig, load_lpips
from evaluation.protocol import Made, Score, counted
from models.mqvae import MQVAE, MQVAEConfig, MQVAEOutput
from reporting.figures import figure4
from shards.images import ImageShards
from shards.pixels import to_float, to_uint8
from training.curves import Curves
from training.images import ImageBatches
from training.loop import LoopSettings, TrainingFolder, train
from training.mqvae import MQVAETrainee
from training.mqvae_plan import ExplorationConfig, LossConfig, MQVAETraining
from training.optimizers import MuonConfig, OptimizerKind
from training.precision import ChannelsLast, Precision, allow_tf32
from training.start import require_folder, start_weights
from workspace.errors import UserError
from workspace.manifest import write_manifest
from workspace.runs import RunFolder
from workspace.seeds import Seed
from workspace.settings import Compute, Params, Settings
from workspace.stage import run_stage


class MQVAESettings(Settings):
    """Section `mqvae`: stage 1."""

    steps: PositiveInt = Field(description="optimiser steps")
    learning_rate: PositiveFloat = Field(description="Adam's peak rate")
    seed: Seed = Field(description="of weights, order, flips, noise")
    global_batch: PositiveInt = Field(description="images a step, over all workers")
    micro_batch: PositiveInt = Field(description="images a forward pass; divides global_batch")
    optimizer: OptimizerKind = Field(default="adamw", description="adamw, or muon for the matrices")
    muon: MuonConfig = MuonConfig()
    warmup_steps: NonNegativeInt = Field(description="steps of linear warm-up")
    final_rate: NonNegativeFloat = Field(description="share of the peak rate at the end of the cosine", le=1)
    beta1: NonNegativeFloat = Field(description="of Adam", lt=1)
    beta2: NonNegativeFloat = Field(description="of Adam", lt=1)
    clip: NonNegativeFloat = Field(description="highest gradient norm; 0 does not clip")
    ema_decay: NonNegativeFloat = Field(description="of the published weights", lt=1)
    precision: Precision = Field(description="fp32, tf32 (rounded products, GPU), bf16 (autocast), float64")
    channels_last: ChannelsLast = Field(
        description="memory format of the convolutions; auto: the device's faster one"
    )
    compile: bool = Field(description="run the model through torch.compile")
    flip: bool = Field(description="flip images left to right at random")
    quantize_from: NonNegativeInt = Field(description="step before which features pass through unquantised")
    init_from: Path | None = Field(description="folder with published weights to start from")
    log_every: PositiveInt = Field(description="steps between rows of the curves")
    validate_every: PositiveInt = Field(description="steps between validations and pictures")
    validate_images: PositiveInt = Field(description="held-out images to validate on")
    checkpoint_every: PositiveInt = Field(description="steps between checkpoints")
    perceptual: LPIPSConfig
    perceptual_precision: Literal["fp32", "bf16"] = Field(
        default="fp32", description="of the perceptual loss's convolutions"
    )
    loss: LossConfig
    exploration: ExplorationConfig
    model: MQVAEConfig


SECTION, SETTINGS = "mqvae", MQVAESettings
ESTIMATORS = {
    "psnr": "decibels of [0, 1] images before rounding, EMA weights, mean over the first validation images",
    "l1": "mean absolute difference of [0, 1] images, the same",
    "codebook_usage": "share of the codes chosen at least once, the same images",
}


@dataclass(frozen=True)
class Inputs:
    """Paths that the stage reads."""

    shards: Path


def check(params: Params) -> None:
    """What must fit across settings before any work."""
    settings = params.section(MQVAESettings)
    where = f"{params.path}: mqvae"
    require_folder(settings.init_from, f"{where}.init_from")
    if settings.global_batch % settings.micro_batch:
        raise UserError(
            f"{where}.global_batch {settings.global_batch} is not a multiple of micro_batch {settings.micro_batch}"
        )
    loop_settings(settings).require(params.compute.workers, where)
    if settings.quantize_from >= settings.steps:
        raise UserError(
            f"{where}.quantize_from is {settings.quantize_from}, expected less than steps {settings.steps}"
        )
    if settings.model.quantizer.kind == "ema" and settings.quantize_from == 0:
        raise UserError(
            f"{where}.quantize_from is 0; an EMA codebook starts from a batch's features: expected ≥ 1"
        )
    perceptual = settings.perceptual.network != "none"
    if bool(settings.loss.perceptual) != perceptual:
        raise UserError(
            f"{where}.loss.perceptual is {settings.loss.perceptual} and mqvae.perceptual.network is "
            f"{settings.perceptual.network}; expected a weight > 0 with a network, or 0 with none"
        )


@dataclass(frozen=True)
class Work:
    """What a worker is given: plain values and paths."""

    settings: MQVAESettings
    shards: Path
    loader_workers: int
    out: Path
    folder: TrainingFolder


def run(settings: MQVAESettings, compute: Compute, inputs: Inputs, folder: RunFolder) -> None:
    """Train on the cluster and write the artifact."""
    shards = ImageShards.open(inputs.shards)
    shards.require(image_size=settings.model.image_size)
    if settings.init_from is not None:
        start_of(settings)  # what does not fit is known before any worker starts
    paths = TrainingFolder(
        folder.work.absolute(),
        folder.metrics.absolute(),
        folder.progress_file.absolute(),
        folder.mirror(compute.checkpoints),
    )
    load_lpips(
        settings.perceptual, "mqvae.perceptual"
    )  # a missing file is known, and fetched once, before any work
    absolute = settings.model_copy(update={"perceptual": settings.perceptual.absolute()})
    work = Work(absolute, inputs.shards.absolute(), compute.loader_workers, folder.out.absolute(), paths)
    fit(train_worker, work, compute, folder.root.absolute())
    config = settings.model
    parameters = sum(p.numel() for p in MQVAE.from_pretrained(folder.out).parameters())
    facts = {
        "grid": [config.grid, config.grid],
        "num_kept": config.num_kept,
        "num_codes": config.num_codes,
        "image_size": config.image_size,
        "parameters": parameters,
        "steps": settings.steps,
    }
    write_manifest(folder.out, "mqvae", facts, made_from={"shards": shards.manifest.fingerprint})
    final = Curves(folder.metrics / "validation.tsv", settings.steps).past()[-1][1]
    scores = {name: Score(value, ESTIMATORS[name]) for name, value in final.items()}
    scores["parameters"] = Score(parameters, "weights that are learned, the codebook included")
    count = min(settings.validate_images, shards.count("val"))
    made = Made(count, settings.model_dump(mode="json"), settings.seed, {})
    counted(scores, shards.manifest.fingerprint, "val", made, folder.metrics)


def train_worker(work: Work, workers: WorkerGroup) -> None:
    """One worker's part; rank 0 writes the published weights."""
    settings = work.settings
    shards = ImageShards.open(work.shards)
    loop = loop_settings(settings)
    # products stay exact, for the search of the nearest code
    allow_tf32(convolutions=settings.precision in ("tf32", "bf16"), products=False)
    torch.manual_seed(settings.seed)
    model = start_of(settings)
    perceptual = load_lpips(settings.perceptual, "mqvae.perceptual")
    if perceptual is not None:
        perceptual.bf16 = settings.perceptual_precision == "bf16"
    trainee = MQVAETrainee(
        model,
        training_of(settings),
        settings.global_batch,
        settings.micro_batch,
        perceptual and perceptual.to(workers.device),
        held_out(shards, settings.validate_images),
        workers.device,
        Pictures(work.folder.metrics, settings.model.grid),
    )
    batches = ImageBatches(shards, loop, workers, settings.flip, work.loader_workers)
    train(trainee, batches, loop, workers, work.folder)
    if workers.rank == 0:
        published = MQVAE(settings.model).to(trainee.dtype)
        published.load_state_dict(trainee.ema.model.state_dict())
        published.save_pretrained(work.out)


def start_of(settings: MQVAESettings) -> MQVAE:
    """The model before its first step: drawn, or published weights.

    Raises:
        UserError: the weights of init_from are missing or do not fit.
    """
    model = MQVAE(settings.model)
    if settings.init_from is not None:
        model.load_state_dict(start_weights(settings.init_from, model, "mqvae.init_from", "mqvae"))
    return model


def sources(settings: MQVAESettings) -> list[Path]:
    """What decides the result beside inputs and settings: the weights that it starts from."""
    return [] if settings.init_from is None else [settings.init_from]


def loop_settings(settings: MQVAESettings) -> LoopSettings:
    """The loop's part of the settings."""
    names = (
        "steps",
        "global_batch",
        "micro_batch",
        "seed",
        "log_every",
        "validate_every",
        "checkpoint_every",
    )
    return LoopSettings(**{name: getattr(settings, name) for name in names})


def training_of(settings: MQVAESettings) -> MQVAETraining:
    """The step's part of the settings."""
    return MQVAETraining(**{name: getattr(settings, name) for name in MQVAETraining.__dataclass_fields__})


def held_out(shards: ImageShards, count: int) -> Tensor:
    """The first validation images, [n, 3, H, W] in [-1, 1]."""
    index = shards.index("val")
    return torch.stack(
        [torch.from_numpy(to_float(index.read(i).image)) for i in range(min(count, len(index)))]
    )


@dataclass(frozen=True)
class Pictures:
    """Draws input, importance, kept cells and reconstruction of the first held-out images at each validation."""

    metrics: Path
    grid: int

    def __call__(self, step: int, image_BCHW: Tensor, output: MQVAEOutput) -> None:
        """Write pictures/step-….png."""
        rows = min(8, len(image_BCHW))
        picture = figure4(
            to_uint8(image_BCHW[:rows].float().cpu().numpy()),
            output.scores_BL[:rows].float().cpu().numpy(),
            output.positions_BN[:rows].cpu().numpy(),
            to_uint8(output.reconstruction_BCHW[:rows].float().cpu().numpy()),
            (self.grid, self.grid),
        )
        target = self.metrics / "pictures" / f"step-{step:07d}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        picture.save(target)


if __name__ == "__main__":
    run_stage("train_mqvae")
