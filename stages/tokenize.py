"""tokenize: every image of the shards → its kept codes and their positions (paper section 3.2, Eq. 1-4).

Reads   image shards, MQ-VAE
Writes  token shards: blocks of codes and position bitmasks (docs/artifacts.md)
Params  tokenize
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cluster.devices import device_of
from cluster.overlap import made_ahead
from cluster.shard_map import ShardJob, jobs_of, map_shards
from evaluation.codes.codebook import perplexity, usage
from evaluation.codes.rate import raw_code_bits, raw_position_bits
from evaluation.protocol import Provenance, Score, counted
from inference.budgets import Plan, estimated, kept_by_all, multiplier_for
from inference.encode import KeyedImages, encoder_on
from inference.token_shards import BlockMaker, Captions, learn_captions
from models.mqvae import MQVAE, MQVAEConfig
from settings.tokenize import TokenizeSettings
from shards.images import SPLITS, ImageShards, decode
from shards.token_making.source_names import SourceNames
from shards.token_making.writing import write_token_manifest, write_token_shard
from shards.tokens import TEXT_TOKENIZER, TokenFacts
from workflow.running import run_stage
from workflow.stage import Stage
from workspace.errors import UserError
from workspace.exact.manifest import read_json, read_manifest, write_json
from workspace.links import link_or_copy
from workspace.progress import track
from workspace.runs import RunFolder
from workspace.settings import Compute

ShardRecords = Sequence[dict[str, Any]]  # what a worker reports about each shard


@dataclass(frozen=True)
class Inputs:
    """Paths that the stage reads."""

    shards: Path
    mqvae: Path


def run(settings: TokenizeSettings, compute: Compute, inputs: Inputs, folder: RunFolder) -> None:
    """Encode shard by shard, then write the facts of the whole set."""
    shards, made_by = ImageShards.open(inputs.shards), read_manifest(inputs.mqvae, "mqvae")
    model = MQVAE.from_pretrained(inputs.mqvae)
    config = model.config
    shards.require(image_size=config.image_size)
    kept = kept_by_all(settings.budget, model)
    work = folder.work.absolute()
    captions = learn_captions(settings, shards, work / TEXT_TOKENIZER) if settings.text_vocab else None
    paths = Inputs(inputs.shards.absolute(), inputs.mqvae.absolute())
    plan = planned(settings, shards, model, compute, work / "multiplier.json")
    make = partial(encoder, paths, settings, captions, compute.device, compute.loader_workers, kept, plan)
    tars = [path for split in SPLITS for path in shards.paths(split)]
    jobs = jobs_of(tars, lambda path: work / "tars" / f"{path.parent.name}-{path.name}")
    records = map_shards(make, jobs, compute, work / "done", "tokenize", folder.progress_file)
    for job in jobs:
        target = folder.out / job.input.parent.name / job.input.name
        target.parent.mkdir(exist_ok=True)
        link_or_copy(job.output, target)
    if captions is not None:
        link_or_copy(captions.tokenizer, folder.out / TEXT_TOKENIZER)
    facts = facts_of(config, kept, shards, captions, records, made_by.fingerprint)
    made_from = {"shards": shards.manifest.fingerprint, "mqvae": made_by.fingerprint}
    write_token_manifest(folder.out, facts, made_from)
    scores = numbers(facts, records, min(max(1, compute.workers), len(jobs)))
    if plan is not None:
        scores |= numbers_of_budget(plan, records)
    provenance = Provenance(facts.counts["train"], settings.model_dump(mode="json"), settings.seed, made_from)
    counted(scores, made_from["shards"], "train", provenance, folder.metrics)


def planned(
    settings: TokenizeSettings, shards: ImageShards, model: MQVAE, compute: Compute, path: Path
) -> Plan | None:
    """How many cells an image is given; None where all are given as many. A resumed run reads λ from `path`."""
    budget = settings.budget
    if budget.kind == "fixed":
        return None
    if budget.kind == "quality":
        return Plan(budget)
    if not path.is_file():
        encoder_on(model, device_of(compute.device))
        index = shards.index("train")
        count = min(budget.estimate_images, len(index))
        rows, found = np.linspace(0, len(index) - 1, count).astype(int).tolist(), []
        batches = [rows[first : first + settings.batch] for first in range(0, count, settings.batch)]
        for batch in track(batches, "λ", "batches"):
            images = KeyedImages.of([index.read(row) for row in batch], settings.seed)
            found.append(estimated(model, images, budget, settings.precision)[1])
        ratio = model.config.mask_ratio if budget.mask_ratio is None else budget.mask_ratio
        mean = (1 - ratio) * model.config.num_positions
        write_json(path, {"multiplier": multiplier_for(budget, np.concatenate(found), mean)})
    return Plan(budget, float(read_json(path)["multiplier"]))


def facts_of(
    config: MQVAEConfig,
    kept: int | None,
    shards: ImageShards,
    captions: Captions | None,
    records: ShardRecords,
    mqvae: str,
) -> TokenFacts:
    """The facts of the whole set; K is the MQ-VAE's, and N too, unless another one is requested."""
    lengths = [number for job in records if "lengths" in job for number in job["lengths"]]
    return TokenFacts(
        grid=(config.grid, config.grid),
        num_codes=config.num_codes,
        num_kept=max(lengths, default=kept or config.num_kept),
        classes=shards.facts.classes,
        text_length=None if captions is None else captions.length,
        text_vocab=None if captions is None else captions.text.vocab,
        counts={split: sum(job["images"] for job in records if job["split"] == split) for split in SPLITS},
        mask=config.mask,
        mqvae=mqvae,
        sources=True,
        fewest_kept=min(lengths, default=None),
        shards={split: tuple(job["images"] for job in records if job["split"] == split) for split in SPLITS},
    )


def encoder(
    paths: Inputs,
    settings: TokenizeSettings,
    captions: Captions | None,
    device: str,
    threads: int,
    kept: int | None = None,
    plan: Plan | None = None,
) -> Callable[[ShardJob], dict[str, Any]]:
    """Called once per worker; returns the function that turns an image shard into a token shard."""
    shards = ImageShards.open(paths.shards)
    model = encoder_on(MQVAE.from_pretrained(paths.mqvae), device_of(device))
    maker = BlockMaker(model, settings, shards.facts.classes is not None, captions, kept, plan)
    sources = SourceNames(shards)

    def one(job: ShardJob) -> dict[str, Any]:
        began, split = time.monotonic(), job.input.parent.name
        augmentations = settings.augmentations if split == "train" else settings.augmentations[:1]
        batches = made_ahead(
            lambda some: [decode(*one) for one in some], maker.batches(shards.encoded(job.input)), threads
        )
        blocks = list(maker.blocks(batches, augmentations, sources.of(job.input)))
        images = sum(len(block.keys) for block in blocks)
        expected = shards.facts.shards[split][int(job.input.stem)] * len(augmentations)
        if images != expected:
            wrong = f"{images:,} images with their copies, but its manifest says {expected:,}"
            raise UserError(f"{job.input} gives {wrong}: run `dvc repro shard`")
        write_token_shard(job.output, blocks)
        counts = sum(np.bincount(block.codes.ravel(), minlength=model.config.num_codes) for block in blocks)
        record = {
            "split": split,
            "images": images,
            "bytes": job.output.stat().st_size,
            "seconds": time.monotonic() - began,
            "code_counts": np.asarray(counts).tolist(),
        }
        if plan is not None:
            record["lengths"] = np.concatenate([block.lengths for block in blocks]).tolist()
            record["psnr"] = float(np.mean(maker.psnr))
            maker.psnr.clear()
        return record

    return one


def numbers(facts: TokenFacts, records: ShardRecords, workers: int) -> dict[str, Score]:
    """Number of images, images per second over all workers, codebook use by the training images, bytes per image."""
    counts = np.sum([job["code_counts"] for job in records if job["split"] == "train"], axis=0)
    images, stored = sum(facts.counts.values()), sum(job["bytes"] for job in records)
    rate = images * workers / sum(job["seconds"] for job in records)
    cells = facts.grid[0] * facts.grid[1]
    lengths = [number for job in records for number in job.get("lengths", [])] or [facts.num_kept]
    kept, places = sum(lengths) / len(lengths), [raw_position_bits(number, cells) for number in lengths]
    values = {
        "images": (images, "copies included"),
        **{f"images_{split}": (count, "copies included") for split, count in facts.counts.items()},
        "images_per_second": (rate, "of all workers together, reading and writing included"),
        "codebook_usage": (usage(counts), "share of the codes chosen at least once by the training images"),
        "codebook_perplexity": (perplexity(counts), "exp entropy of the codes' frequencies, training images"),
        "bytes_per_image": (stored / images, "size of the tars, images of both splits"),
        "code_bits_per_image_raw": (raw_code_bits(kept, facts.num_codes), "N log₂ K"),
        "position_bits_per_image_raw": (sum(places) / len(places), "log₂ (L choose N)"),
    }
    return {name: Score(float(value), words) for name, (value, words) in values.items()}


def numbers_of_budget(plan: Plan, records: ShardRecords) -> dict[str, Score]:
    """How many codes the training images were given, and what for."""
    train = [job for job in records if job["split"] == "train"]
    lengths = np.concatenate([job["lengths"] for job in train])
    psnr = np.average([job["psnr"] for job in train], weights=[job["images"] for job in train])
    values = {
        "codes_per_image": (lengths.mean(), "mean N, training images"),
        "codes_per_image_deviation": (lengths.std(), "standard deviation of N, the same"),
        "psnr_estimated": (psnr, "decibels, interpolated between the rungs, mean of the same"),
    }
    if plan.budget.kind == "rate":
        values["rate_multiplier"] = (plan.multiplier, f"λ, {plan.budget.gain} per cell")
    return {name: Score(float(value), words) for name, (value, words) in values.items()}


STAGE = Stage("tokenize", __doc__, TokenizeSettings, Inputs, run)

if __name__ == "__main__":
    run_stage("tokenize")
