"""train_mqvae: image shards → a trained MQ-VAE (paper section 3.2, Eq. 1-8).

Reads   image shards; several sets of them with `mqvae.sources`
Writes  model.safetensors (EMA weights, codebook) and config.json, discriminator/ on wish;
        curves and pictures in metrics/train_mqvae
Params  mqvae
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from cluster.training import WorkerGroup, fit
from evaluation.perceptual.lpips import load_lpips
from evaluation.protocol import Provenance, Score, counted
from models.base.later import written
from models.base.precision import allow_tf32
from models.base.published import MQVAEFacts
from models.mqvae import MQVAE
from models.mqvae.discriminator import FOLDER as DISCRIMINATOR
from reporting.validations import Pictures
from settings.mqvae import MQVAESettings
from shards.images import ImageShards
from training.loop.published import read_published
from training.loop.start import started
from training.loop.train import TrainingFolder, train
from training.mqvae.batches import ImageBatches, held_out
from training.mqvae.module import MQVAETrainingModule
from training.mqvae.start import check_start
from workflow.card import write_card
from workflow.running import run_stage
from workflow.stage import Stage
from workflow.watched import tell_unwatched
from workspace.exact.manifest import write_manifest
from workspace.runs import RunFolder
from workspace.settings import Compute
from workspace.stores.cache import USUAL, Cache

ESTIMATORS = {
    "psnr": "decibels of [0, 1] images before rounding, EMA weights, mean over the first validation images",
    "l1": "mean absolute difference of [0, 1] images, the same",
    "codebook_usage": "share of the codes chosen at least once, the same images",
}


@dataclass(frozen=True)
class Inputs:
    """Paths that the stage reads."""

    shards: Path


@dataclass(frozen=True)
class WorkerArgs:
    """A worker's arguments: plain values and paths."""

    settings: MQVAESettings
    shards: Path
    loader_workers: int
    out: Path
    folder: TrainingFolder
    cache: Cache = USUAL


def run(settings: MQVAESettings, compute: Compute, inputs: Inputs, folder: RunFolder) -> None:
    """Train on the cluster and write the artifact."""
    shards = ImageShards.open(inputs.shards, compute.cache)
    shards.require(image_size=settings.model.image_size)
    images = settings.images(shards)
    if settings.init_from is not None:  # what does not fit is known before any worker starts
        model = MQVAE(settings.model)
        check_start(settings, model, started(model, settings))
    paths = TrainingFolder.of(folder, compute)
    load_lpips(settings.perceptual, "mqvae.perceptual")  # fail before any work if a file is missing
    args = WorkerArgs(
        settings.absolute(),
        inputs.shards.absolute(),
        compute.loader_workers,
        folder.out.absolute(),
        paths,
        compute.cache,
    )
    fit(train_worker, args, compute, folder.root.absolute())
    steps, final = read_published(folder.work)
    config = settings.model
    parameters = sum(p.numel() for p in MQVAE.from_pretrained(folder.out).parameters())
    facts = MQVAEFacts(
        grid=(config.grid, config.grid),
        num_kept=config.num_kept,
        num_codes=config.num_codes,
        image_size=config.image_size,
        parameters=parameters,
        steps=steps,
        kept=config.kept,
    )
    made_from = {"shards": shards.manifest.fingerprint} | images.fingerprints(shards)
    write_manifest(folder.out, "mqvae", written(facts), made_from)
    scores = {name: Score(value, ESTIMATORS[name]) for name, value in final.items()}
    scores["parameters"] = Score(parameters, "weights that are learned, the codebook included")
    count = min(settings.validate_images, shards.count("val"))
    provenance = Provenance(count, settings.model_dump(mode="json"), settings.seed, {})
    counted(scores, shards.manifest.fingerprint, "val", provenance, folder.metrics)
    write_card(folder.out, folder.metrics)


def train_worker(args: WorkerArgs, workers: WorkerGroup) -> None:
    """Train as one worker of a group; rank 0 writes the published weights."""
    settings = args.settings
    shards = ImageShards.open(args.shards, args.cache)
    # the nearest-code search needs exact products
    allow_tf32(convolutions=settings.precision in ("tf32", "bf16"), products=False)
    torch.manual_seed(settings.seed)
    model = MQVAE(settings.model)
    start = started(model, settings)
    perceptual = load_lpips(settings.perceptual, "mqvae.perceptual")
    if perceptual is not None:
        perceptual.bf16 = settings.perceptual_precision == "bf16"
    training_module = MQVAETrainingModule(
        model,
        settings,
        perceptual and perceptual.to(workers.device),
        held_out(shards, settings.validate_images),
        workers.device,
        Pictures(args.folder.metrics, settings.model.grid),
        start,
    )
    batches = ImageBatches(settings.images(shards), settings, workers, args.loader_workers)
    trained = train(training_module, batches, settings, workers, args.folder)
    if workers.rank == 0:
        published = MQVAE(settings.model).to(training_module.dtype)
        published.load_state_dict(trained.state_dict())
        published.save_pretrained(args.out)
        if settings.publish_discriminator:
            training_module.discriminator.save_pretrained(args.out / DISCRIMINATOR)


STAGE = Stage(
    "train_mqvae",
    __doc__,
    MQVAESettings,
    Inputs,
    run,
    MQVAESettings.folders,
    tell_unwatched,
    weights=MQVAESettings.weights,
)

if __name__ == "__main__":
    run_stage("train_mqvae")
