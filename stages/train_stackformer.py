"""train_stackformer: token shards → a trained Stackformer (paper section 3.3, Eq. 9-14).

Reads   token shards, and nothing else
Writes  model.safetensors (EMA weights) and config.json, text_tokenizer.json if captions are the condition;
        curves in metrics/train_stackformer
Params  stackformer
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from cluster.training import WorkerGroup, fit
from evaluation.codes.rate import bits_per_image
from evaluation.protocol import Provenance, Score, counted
from models.base.later import written
from models.base.precision import allow_tf32, weight_dtype
from models.base.published import TEXT_TOKENIZER, StackformerFacts
from models.stackformer import Stackformer, StackformerConfig
from models.stackformer.tables import refitted
from settings.stackformer import StackformerSettings
from shards.tokens import TokenShards
from training.loop.parallel import whole_state
from training.loop.published import read_published
from training.loop.start import started
from training.loop.train import TrainingFolder, train
from training.stackformer.batches import TokenBatches, held_out
from training.stackformer.config import config_of
from training.stackformer.module import StackformerTrainingModule
from workflow.card import write_card
from workflow.running import run_stage
from workflow.stage import Stage
from workspace.exact.manifest import write_manifest
from workspace.progress import say
from workspace.runs import RunFolder
from workspace.settings import Compute

NATS = (
    "-log p of held-out tokens under the EMA weights, nats per image, mean over the first validation images"
)


@dataclass(frozen=True)
class Inputs:
    """Paths that the stage reads."""

    tokens: Path


@dataclass(frozen=True)
class WorkerArgs:
    """A worker's arguments: plain values and paths."""

    settings: StackformerSettings
    config: StackformerConfig
    tokens: Path
    out: Path
    folder: TrainingFolder


def run(settings: StackformerSettings, compute: Compute, inputs: Inputs, folder: RunFolder) -> None:
    """Train on the cluster and write the artifact."""
    tokens = TokenShards.open(inputs.tokens)
    config = config_of(settings, tokens.facts, inputs.tokens)
    if settings.init_from is not None:  # fail before any worker starts if the weights do not fit
        for line in started(Stackformer(config), settings, refitted).told:
            say(line)
    paths = TrainingFolder.of(folder, compute)
    args = WorkerArgs(settings, config, inputs.tokens.absolute(), folder.out.absolute(), paths)
    fit(train_worker, args, compute, folder.root.absolute())
    if config.condition == "text":
        shutil.copyfile(tokens.tokenizer, folder.out / TEXT_TOKENIZER)
    parameters = sum(weight.numel() for weight in Stackformer.from_pretrained(folder.out).parameters())
    steps, final = read_published(folder.work)
    scores = {name: Score(value, NATS) for name, value in final.items()}
    held = np.arange(min(settings.validate_images, tokens.facts.counts["val"]))
    lengths = tokens.split("val").lengths_of(held).tolist() if config.stops else [config.num_kept]
    sizes = config.num_codes, config.num_positions
    scores |= bits_per_image(final, lengths, *sizes, tokens.facts.same_places)
    scores["parameters"] = Score(parameters, "weights that are learned")
    count = min(settings.validate_images, tokens.facts.counts["val"])
    provenance = Provenance(
        count, settings.model_dump(mode="json"), settings.seed, {"mqvae": tokens.facts.mqvae}
    )
    counted(scores, tokens.manifest.fingerprint, "val", provenance, folder.metrics)
    facts = StackformerFacts(
        grid=tokens.facts.grid,
        num_kept=config.num_kept,
        num_codes=config.num_codes,
        condition=config.condition,
        classes=tokens.facts.classes,
        mqvae=tokens.facts.mqvae,
        parameters=parameters,
        steps=steps,
        cfg_dropout=settings.cfg_dropout,
        fewest_kept=config.fewest_kept,
    )
    write_manifest(folder.out, "stackformer", written(facts), {"tokens": tokens.manifest.fingerprint})
    write_card(folder.out, folder.metrics)


def train_worker(args: WorkerArgs, workers: WorkerGroup) -> None:
    """Train as one worker of a group; rank 0 writes the published weights."""
    settings, config = args.settings, args.config
    tokens = TokenShards.open(args.tokens)
    allow_tf32(convolutions=False, products=settings.precision == "tf32")
    torch.manual_seed(settings.seed)
    model = Stackformer(config)
    started(model, settings, refitted)
    unseen = held_out(tokens.split("val"), config, settings.validate_images)
    training_module = StackformerTrainingModule(model, settings, unseen, workers.device)
    batches = TokenBatches(tokens.split("train"), config, settings, workers)
    trained = train(training_module, batches, settings, workers, args.folder)
    weights = whole_state(trained)
    if workers.rank == 0:
        published = Stackformer(config).to(weight_dtype(settings.precision))
        published.load_state_dict(weights)
        published.save_pretrained(args.out)


STAGE = Stage(
    "train_stackformer", __doc__, StackformerSettings, Inputs, run, weights=StackformerSettings.weights
)

if __name__ == "__main__":
    run_stage("train_stackformer")
