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
from inference.encode import encoder_on
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
from workspace.exact.manifest import read_manifest
from workspace.links import link_or_copy
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
    config = MQVAE.from_pretrained(inputs.mqvae).config
    shards.require(image_size=config.image_size)
    work = folder.work.absolute()
    captions = learn_captions(settings, shards, work / TEXT_TOKENIZER) if settings.text_vocab else None
    paths = Inputs(inputs.shards.absolute(), inputs.mqvae.absolute())
    make = partial(encoder, paths, settings, captions, compute.device, compute.loader_workers)
    tars = [path for split in SPLITS for path in shards.paths(split)]
    jobs = jobs_of(tars, lambda path: work / "tars" / f"{path.parent.name}-{path.name}")
    records = map_shards(make, jobs, compute, work / "done", "tokenize", folder.progress_file)
    for job in jobs:
        target = folder.out / job.input.parent.name / job.input.name
        target.parent.mkdir(exist_ok=True)
        link_or_copy(job.output, target)
    if captions is not None:
        link_or_copy(captions.tokenizer, folder.out / TEXT_TOKENIZER)
    facts = facts_of(config, shards, captions, records, made_by.fingerprint)
    made_from = {"shards": shards.manifest.fingerprint, "mqvae": made_by.fingerprint}
    write_token_manifest(folder.out, facts, made_from)
    scores = numbers(facts, records, min(max(1, compute.workers), len(jobs)))
    provenance = Provenance(facts.counts["train"], settings.model_dump(mode="json"), settings.seed, made_from)
    counted(scores, made_from["shards"], "train", provenance, folder.metrics)


def facts_of(
    config: MQVAEConfig, shards: ImageShards, captions: Captions | None, records: ShardRecords, mqvae: str
) -> TokenFacts:
    """The facts of the whole set; N and K are the MQ-VAE's."""
    return TokenFacts(
        grid=(config.grid, config.grid),
        num_codes=config.num_codes,
        num_kept=config.num_kept,
        classes=shards.facts.classes,
        text_length=None if captions is None else captions.length,
        text_vocab=None if captions is None else captions.text.vocab,
        counts={split: sum(job["images"] for job in records if job["split"] == split) for split in SPLITS},
        mask=config.mask,
        mqvae=mqvae,
        sources=True,
    )


def encoder(
    paths: Inputs, settings: TokenizeSettings, captions: Captions | None, device: str, threads: int
) -> Callable[[ShardJob], dict[str, Any]]:
    """Called once per worker; returns the function that turns an image shard into a token shard."""
    shards = ImageShards.open(paths.shards)
    model = encoder_on(MQVAE.from_pretrained(paths.mqvae), device_of(device))
    maker = BlockMaker(model, settings, shards.facts.classes is not None, captions)
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
        return {
            "split": split,
            "images": images,
            "bytes": job.output.stat().st_size,
            "seconds": time.monotonic() - began,
            "code_counts": np.asarray(counts).tolist(),
        }

    return one


def numbers(facts: TokenFacts, records: ShardRecords, workers: int) -> dict[str, Score]:
    """Number of images, images per second over all workers, codebook use by the training images, bytes per image."""
    counts = np.sum([job["code_counts"] for job in records if job["split"] == "train"], axis=0)
    images, stored = sum(facts.counts.values()), sum(job["bytes"] for job in records)
    rate = images * workers / sum(job["seconds"] for job in records)
    kept, cells = facts.num_kept, facts.grid[0] * facts.grid[1]
    values = {
        "images": (images, "copies included"),
        **{f"images_{split}": (count, "copies included") for split, count in facts.counts.items()},
        "images_per_second": (rate, "of all workers together, reading and writing included"),
        "codebook_usage": (usage(counts), "share of the codes chosen at least once by the training images"),
        "codebook_perplexity": (perplexity(counts), "exp entropy of the codes' frequencies, training images"),
        "bytes_per_image": (stored / images, "size of the tars, images of both splits"),
        "code_bits_per_image_raw": (raw_code_bits(kept, facts.num_codes), "N log₂ K"),
        "position_bits_per_image_raw": (raw_position_bits(kept, cells), "log₂ (L choose N)"),
    }
    return {name: Score(float(value), words) for name, (value, words) in values.items()}


STAGE = Stage("tokenize", __doc__, TokenizeSettings, Inputs, run)

if __name__ == "__main__":
    run_stage("tokenize")
