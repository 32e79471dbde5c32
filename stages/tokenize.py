"""tokenize: every image of the shards → its kept codes and their positions (paper section 3.2, Eq. 1-4).

Reads   image shards, MQ-VAE
Writes  token shards: blocks of codes and position bitmasks (docs/artifacts.md)
Params  tokenize
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cluster.devices import device_of
from cluster.overlap import made_ahead
from cluster.shard_map import ShardJob, jobs_of, map_shards
from evaluation.codes.tokens import missed, scores_of_budget, token_scores
from evaluation.perceptual.lpips import load_lpips
from evaluation.protocol import Provenance, counted
from inference.budgets import Distance, Plan, kept_by_all, planned
from inference.encode import encoder_on
from inference.token_shards import BlockMaker, Captions, learn_captions, token_facts
from models.mqvae import MQVAE
from settings.tokenize import TokenizeSettings
from shards.images import SPLITS, ImageShards, decode
from shards.token_making.source_names import SourceNames
from shards.token_making.writing import write_token_manifest, write_token_shard
from shards.tokens import TEXT_TOKENIZER
from workflow.running import run_stage
from workflow.stage import Stage
from workspace.errors import UserError
from workspace.exact.manifest import read_manifest
from workspace.links import link_or_copy
from workspace.runs import RunFolder
from workspace.settings import Compute
from workspace.stores.cache import USUAL, Cache


@dataclass(frozen=True)
class Inputs:
    """Paths that the stage reads."""

    shards: Path
    mqvae: Path


def run(settings: TokenizeSettings, compute: Compute, inputs: Inputs, folder: RunFolder) -> None:
    """Encode shard by shard, then write the facts of the whole set."""
    shards, made_by = ImageShards.open(inputs.shards, compute.cache), read_manifest(inputs.mqvae, "mqvae")
    model = MQVAE.from_pretrained(inputs.mqvae)
    config = model.config
    shards.require(image_size=config.image_size)
    kept = kept_by_all(settings.budget, model)
    work = folder.work.absolute()
    captions = learn_captions(settings, shards, work / TEXT_TOKENIZER) if settings.text_vocab else None
    paths = Inputs(inputs.shards.absolute(), inputs.mqvae.absolute())
    device = device_of(compute.device)
    lpips = distance_of(settings, device)  # fail before any work if a file is missing
    plan = planned(settings, shards, model, device, work / "multiplier.json", lpips)
    own = settings.replaced(lpips=settings.lpips.absolute())  # a worker may start in another folder
    make = partial(
        encoder, paths, own, captions, compute.device, compute.loader_workers, kept, plan, compute.cache
    )
    tars = [path for split in SPLITS for path in shards.paths(split)]
    jobs = jobs_of(tars, lambda path: work / "tars" / f"{path.parent.name}-{path.name}")
    records = map_shards(make, jobs, compute, work / "done", "tokenize", folder.progress_file)
    for job in jobs:
        target = folder.out / job.input.parent.name / job.input.name
        target.parent.mkdir(exist_ok=True)
        link_or_copy(job.output, target)
    if captions is not None:
        link_or_copy(captions.tokenizer, folder.out / TEXT_TOKENIZER)
    facts = token_facts(config, kept, shards, captions, records, made_by.fingerprint)
    made_from = {"shards": shards.manifest.fingerprint, "mqvae": made_by.fingerprint}
    write_token_manifest(folder.out, facts, made_from)
    scores = token_scores(facts, records, min(max(1, compute.workers), len(jobs)))
    if plan is not None:
        by, goal = plan.budget.by, abs(plan.budget.goal) if plan.budget.kind == "quality" else None
        scores |= scores_of_budget(records, by, goal, plan.multiplier or None)
        for line in missed(records, by, goal, config.num_positions):
            folder.say_when_published(line)
    provenance = Provenance(facts.counts["train"], settings.model_dump(mode="json"), settings.seed, made_from)
    counted(scores, made_from["shards"], "train", provenance, folder.metrics)


def encoder(
    paths: Inputs,
    settings: TokenizeSettings,
    captions: Captions | None,
    device: str,
    threads: int,
    kept: int | None = None,
    plan: Plan | None = None,
    cache: Cache = USUAL,
) -> Callable[[ShardJob], dict[str, Any]]:
    """Called once per worker; returns the function that turns an image shard into a token shard."""
    shards = ImageShards.open(paths.shards, cache)
    model = encoder_on(MQVAE.from_pretrained(paths.mqvae), device_of(device))
    lpips = distance_of(settings, device_of(device))
    maker = BlockMaker(model, settings, shards.facts.classes is not None, captions, kept, plan, lpips)
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
            record["quality"] = float(np.mean(maker.quality))
            record["missed"] = sum(value < plan.budget.goal for value in maker.quality)
        return record

    return one


def distance_of(settings: TokenizeSettings, device: torch.device) -> Distance | None:
    """LPIPS, if the budget judges by it."""
    if settings.budget.by != "lpips":
        return None
    network = load_lpips(settings.lpips, "tokenize.lpips")
    return None if network is None else network.to(device).distances


STAGE = Stage("tokenize", __doc__, TokenizeSettings, Inputs, run, weights=TokenizeSettings.weights)

if __name__ == "__main__":
    run_stage("tokenize")
