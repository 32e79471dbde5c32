"""train_stackformer: token shards → a trained Stackformer (paper section 3.3, Eq. 9-14).

Reads   token shards, and nothing else
Writes  model.safetensors (EMA weights) and config.json, text_tokenizer.json where captions are the condition;
        curves in metrics/train_stackformer
Params  stackformer
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from cluster.training import WorkerGroup, fit
from evaluation.protocol import Made, Score, counted
from evaluation.rate import bits_per_image
from models.stackformer import Condition, NetworkConfig, Stackformer, StackformerConfig
from shards.tokens import TEXT_TOKENIZER, TokenFacts, TokenShards
from training.curves import Curves
from training.loop import LoopSettings, TrainingFolder, train
from training.optimizers import MuonConfig, OptimizerKind
from training.precision import Precision, allow_tf32, weight_dtype
from training.stackformer import StackformerTrainee, StackformerTraining
from training.start import require_folder, start_weights
from training.tokens import TokenBatches, held_out
from workspace.errors import UserError
from workspace.manifest import write_manifest
from workspace.runs import RunFolder
from workspace.seeds import Seed
from workspace.settings import Compute, Params, Settings
from workspace.stage import run_stage


class StackformerSettings(Settings):
    """Section `stackformer`: stage 2."""

    steps: PositiveInt = Field(description="optimiser steps")
    learning_rate: PositiveFloat = Field(description="AdamW's peak rate")
    seed: Seed = Field(description="of weights, order, dropout, captions, condition drop")
    global_batch: PositiveInt = Field(description="images a step, over all workers")
    micro_batch: PositiveInt = Field(description="images a forward pass; divides global_batch")
    optimizer: OptimizerKind = Field(default="adamw", description="adamw, or muon for the matrices")
    muon: MuonConfig = MuonConfig()
    warmup_steps: NonNegativeInt = Field(description="steps of linear warm-up")
    final_rate: NonNegativeFloat = Field(description="share of the peak rate at the end of the cosine", le=1)
    beta1: NonNegativeFloat = Field(description="of AdamW", lt=1)
    beta2: NonNegativeFloat = Field(description="of AdamW", lt=1)
    weight_decay: NonNegativeFloat = Field(description="of linear maps; norms, biases, embeddings have none")
    clip: NonNegativeFloat = Field(description="highest gradient norm; 0 does not clip")
    ema_decay: NonNegativeFloat = Field(description="of the published weights", lt=1)
    precision: Precision = Field(description="fp32, tf32 (rounded products, GPU), bf16 (autocast), float64")
    compile: bool = Field(description="run the model through torch.compile")
    init_from: Path | None = Field(description="folder with published weights to start from")
    condition: Condition = Field(description="what an image is asked for by: none, class or text")
    condition_drop: NonNegativeFloat = Field(
        description="share of samples that learn without it, for guidance", lt=1
    )
    log_every: PositiveInt = Field(description="steps between rows of the curves")
    validate_every: PositiveInt = Field(description="steps between validations")
    validate_images: PositiveInt = Field(description="held-out images to validate on")
    checkpoint_every: PositiveInt = Field(description="steps between checkpoints")
    model: NetworkConfig


SECTION, SETTINGS = "stackformer", StackformerSettings
NATS = "-log p of held-out tokens under the EMA weights, nats an image, mean over the first validation images"


@dataclass(frozen=True)
class Inputs:
    """Paths that the stage reads."""

    tokens: Path


def check(params: Params) -> None:
    """What must fit across settings before any work."""
    settings = params.section(StackformerSettings)
    where = f"{params.path}: stackformer"
    require_folder(settings.init_from, f"{where}.init_from")
    batch, micro = settings.global_batch, settings.micro_batch
    if batch % micro:
        raise UserError(f"{where}.global_batch {batch} is not a multiple of micro_batch {micro}")
    loop_settings(settings).require(params.compute.workers, where)
    if settings.condition == "none" and settings.condition_drop:
        raise UserError(
            f"{where}.condition_drop is {settings.condition_drop}; expected 0 where condition is none"
        )


def check_across(params: Params) -> None:
    """A model of captions needs tokens that hold them, one without positions tokens that keep all."""
    if not params.section(StackformerSettings).model.position_layers:
        ratio = params.sections["mqvae"].model_dump()["model"]["mask_ratio"]
        if ratio:
            raise UserError(
                f"{params.path}: stackformer.model.position_layers is 0 and mqvae.model.mask_ratio {ratio}; expected ≥ 1 layers "
                "(0 is for mask_ratio 0, where every cell is kept)"
            )
    tokenize: dict[str, Any] = params.sections["tokenize"].model_dump()
    condition = params.section(StackformerSettings).condition
    if condition == "text" and not (tokenize["text_vocab"] and tokenize["text_length"]):
        raise UserError(
            f"{params.path}: stackformer.condition is text and tokenize.text_vocab {tokenize['text_vocab']}, text_length "
            f"{tokenize['text_length']}; expected both > 0, so that the tokens hold captions"
        )


@dataclass(frozen=True)
class Work:
    """What a worker is given: plain values and paths."""

    settings: StackformerSettings
    config: StackformerConfig
    tokens: Path
    out: Path
    folder: TrainingFolder


def run(settings: StackformerSettings, compute: Compute, inputs: Inputs, folder: RunFolder) -> None:
    """Train on the cluster and write the artifact."""
    tokens = TokenShards.open(inputs.tokens)
    config = config_of(settings, tokens.facts, inputs.tokens)
    if settings.init_from is not None:
        start_of(settings, config)  # what does not fit is known before any worker starts
    paths = TrainingFolder(
        folder.work.absolute(),
        folder.metrics.absolute(),
        folder.progress_file.absolute(),
        folder.mirror(compute.checkpoints),
    )
    work = Work(settings, config, inputs.tokens.absolute(), folder.out.absolute(), paths)
    fit(train_worker, work, compute, folder.root.absolute())
    if config.condition == "text":
        shutil.copyfile(inputs.tokens / TEXT_TOKENIZER, folder.out / TEXT_TOKENIZER)
    parameters = sum(weight.numel() for weight in Stackformer.from_pretrained(folder.out).parameters())
    final = Curves(folder.metrics / "validation.tsv", settings.steps).past()[-1][1]
    scores = {name: Score(value, NATS) for name, value in final.items()}
    scores |= bits_per_image(final, config.num_kept, config.num_codes, config.num_positions)
    scores["parameters"] = Score(parameters, "weights that are learned")
    count = min(settings.validate_images, tokens.facts.counts["val"])
    made = Made(count, settings.model_dump(mode="json"), settings.seed, {"mqvae": tokens.facts.mqvae})
    counted(scores, tokens.manifest.fingerprint, "val", made, folder.metrics)
    facts = {
        "grid": tokens.facts.grid,
        "num_kept": config.num_kept,
        "num_codes": config.num_codes,
        "condition": config.condition,
        "condition_drop": settings.condition_drop,
        "classes": tokens.facts.classes,
        "mqvae": tokens.facts.mqvae,
        "parameters": parameters,
        "steps": settings.steps,
    }
    write_manifest(folder.out, "stackformer", facts, made_from={"tokens": tokens.manifest.fingerprint})


def config_of(settings: StackformerSettings, facts: TokenFacts, tokens: Path) -> StackformerConfig:
    """The model that these tokens ask for.

    Raises:
        UserError: the tokens lack the condition, or the network does not fit them.
    """
    if not facts.counts["val"]:
        raise UserError(
            f"{tokens} holds no validation images; set shard.val_fraction > 0 and run `dvc repro`"
        )
    length, vocab = 1, 1
    if settings.condition == "class":
        if not facts.classes:
            raise UserError(
                f"stackformer.condition is class, and {tokens} has no classes; expected none or text"
            )
        vocab = len(facts.classes)
    elif settings.condition == "text":
        if not facts.text_length or not facts.text_vocab:
            raise UserError(
                f"stackformer.condition is text, and {tokens} holds no captions: set tokenize.text_vocab and "
                "text_length and run `dvc repro tokenize`"
            )
        length, vocab = facts.text_length, facts.text_vocab
    try:
        return StackformerConfig(
            network=settings.model,
            num_codes=facts.num_codes,
            num_positions=facts.num_positions,
            num_kept=facts.num_kept,
            condition=settings.condition,
            condition_length=length,
            condition_vocab=vocab,
        )
    except ValueError as error:
        raise UserError(f"stackformer.model does not fit {tokens}: {error}") from error


def train_worker(work: Work, workers: WorkerGroup) -> None:
    """One worker's part; rank 0 writes the published weights."""
    settings, config = work.settings, work.config
    tokens = TokenShards.open(work.tokens)
    loop = loop_settings(settings)
    allow_tf32(convolutions=False, products=settings.precision == "tf32")
    torch.manual_seed(settings.seed)
    model = start_of(settings, config)
    unseen = held_out(tokens.load("val"), config, settings.validate_images)
    trainee = StackformerTrainee(model, training_of(settings), unseen, settings.micro_batch, workers.device)
    batches = TokenBatches(tokens.load("train"), config, loop, workers, settings.condition_drop)
    train(trainee, batches, loop, workers, work.folder)
    if workers.rank == 0:
        published = Stackformer(config).to(weight_dtype(settings.precision))
        published.load_state_dict(trainee.ema.model.state_dict())
        published.save_pretrained(work.out)


def start_of(settings: StackformerSettings, config: StackformerConfig) -> Stackformer:
    """The model before its first step: drawn, or published weights.

    Raises:
        UserError: the weights of init_from are missing or do not fit.
    """
    model = Stackformer(config)
    if settings.init_from is not None:
        weights = start_weights(settings.init_from, model, "stackformer.init_from", "stackformer")
        model.load_state_dict(weights)
    return model


def sources(settings: StackformerSettings) -> list[Path]:
    """What decides the result beside inputs and settings: the weights that it starts from."""
    return [] if settings.init_from is None else [settings.init_from]


def loop_settings(settings: StackformerSettings) -> LoopSettings:
    """The loop's part of the settings."""
    return LoopSettings(**{name: getattr(settings, name) for name in LoopSettings.__dataclass_fields__})


def training_of(settings: StackformerSettings) -> StackformerTraining:
    """The step's part of the settings."""
    return StackformerTraining(
        **{name: getattr(settings, name) for name in StackformerTraining.__dataclass_fields__}
    )


if __name__ == "__main__":
    run_stage("train_stackformer")
