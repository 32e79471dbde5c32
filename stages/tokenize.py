"""tokenize: every image of the shards → its kept codes and where they sit (paper section 3.2, Eq. 1-4).

Reads   image shards, MQ-VAE
Writes  token shards: blocks of codes and position bitmasks (docs/artifacts.md)
Params  tokenize
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cluster.devices import device_of
from cluster.overlap import made_ahead
from cluster.shard_map import ShardJob, map_shards
from evaluation.codebook import perplexity, usage
from evaluation.protocol import Made, Score, counted
from evaluation.rate import raw_code_bits, raw_position_bits
from models.masker import random_ranking
from models.mqvae import MQVAE, MQVAEConfig
from models.precision import autocast
from settings.tokenize import Copy, TokenizeSettings
from shards.images import SPLITS, Encoded, ImageFacts, ImageSample, ImageShards, decode
from shards.pixels import to_tensor
from shards.source_names import SourceNames, named
from shards.text import TextTokenizer, captions_of
from shards.token_blocks import TokenBlock, pack_positions, write_token_shard
from shards.tokens import TEXT_TOKENIZER, TokenFacts, write_token_manifest
from workflow.running import run_stage
from workflow.stage import Stage
from workspace.errors import UserError
from workspace.links import link_or_copy
from workspace.manifest import read_manifest
from workspace.progress import say
from workspace.runs import RunFolder
from workspace.seeds import sample_seed
from workspace.settings import Compute


@dataclass(frozen=True)
class Inputs:
    """Paths that the stage reads."""

    shards: Path
    mqvae: Path


@dataclass(frozen=True)
class Captions:
    """How captions are stored: with the tokenizer at a path, in room for `most` of them an image (C)."""

    tokenizer: Path
    most: int


def run(settings: TokenizeSettings, compute: Compute, inputs: Inputs, folder: RunFolder) -> None:
    """Encode shard by shard, then write down what is true of all of them."""
    shards, made_by = ImageShards.open(inputs.shards), read_manifest(inputs.mqvae, "mqvae")
    config = MQVAE.from_pretrained(inputs.mqvae).config
    shards.require(image_size=config.image_size)
    work = folder.work.absolute()
    captions = learn_captions(settings, shards, work / TEXT_TOKENIZER) if settings.text_vocab else None
    mqvae, images = inputs.mqvae.absolute(), inputs.shards.absolute()
    make = partial(encoder, mqvae, images, settings, captions, compute.device, compute.loader_workers)
    paths = [path.absolute() for split in SPLITS for path in shards.paths(split)]
    jobs = [
        ShardJob(path, work / "tars" / f"{path.parent.name}-{path.name}", number)
        for number, path in enumerate(paths)
    ]
    told = map_shards(make, jobs, compute, work / "done", "tokenize", folder.progress_file)
    for job in jobs:
        target = folder.out / job.input.parent.name / job.input.name
        target.parent.mkdir(exist_ok=True)
        link_or_copy(job.output, target)
    if captions is not None:
        link_or_copy(captions.tokenizer, folder.out / TEXT_TOKENIZER)
    facts = facts_of(settings, config, shards.facts, captions, told, made_by.fingerprint)
    made_from = {"shards": shards.manifest.fingerprint, "mqvae": made_by.fingerprint}
    write_token_manifest(folder.out, facts, made_from)
    workers = min(max(1, compute.workers), len(jobs))
    made = Made(facts.counts["train"], settings.model_dump(mode="json"), settings.seed, made_from)
    counted(numbers(facts, told, workers), made_from["shards"], "train", made, folder.metrics)


def learn_captions(settings: TokenizeSettings, shards: ImageShards, path: Path) -> Captions:
    """Train the BPE on the training captions and keep it at `path`; every caption is counted.

    Raises:
        UserError: no training captions, or an image with more than 255.
    """
    found = {
        split: [captions for tar in shards.paths(split) for captions in captions_of(tar)] for split in SPLITS
    }
    train = [caption for captions in found["train"] for caption in captions]
    text = TextTokenizer.train(train, settings.text_vocab)
    cut = float((text.lengths(train) > settings.text_length).mean())
    if cut:
        say(f"{cut:.1%} of the captions are cut to tokenize.text_length = {settings.text_length} codes")
    most = max(len(captions) for split in SPLITS for captions in found[split])
    if most > 255:
        raise UserError(f"an image of {shards.folder} has {most} captions; expected at most 255")
    text.save(path)
    return Captions(path, most)


def facts_of(
    settings: TokenizeSettings,
    config: MQVAEConfig,
    images: ImageFacts,
    captions: Captions | None,
    told: Sequence[dict[str, Any]],
    mqvae: str,
) -> TokenFacts:
    """What is true of all the tokens; N and K are the MQ-VAE's."""
    return TokenFacts(
        grid=(config.grid, config.grid),
        num_codes=config.num_codes,
        num_kept=config.num_kept,
        classes=images.classes,
        text_length=None if captions is None else settings.text_length,
        text_vocab=None if captions is None else TextTokenizer.load(captions.tokenizer).vocab,
        counts={split: sum(job["images"] for job in told if job["split"] == split) for split in SPLITS},
        mask=config.mask,
        mqvae=mqvae,
        sources=True,
    )


def encoder(
    mqvae: Path,
    shards: Path,
    settings: TokenizeSettings,
    captions: Captions | None,
    device: str,
    threads: int,
) -> "Encoder":
    """Made once a worker: what turns an image shard into a token shard."""
    where = device_of(device)
    # GroupNorm has kernels for channels last on a CPU, and would turn every grid twice on a GPU.
    form = torch.channels_last if where.type == "cpu" else torch.contiguous_format
    model = MQVAE.from_pretrained(mqvae)
    model = model.to(where).to(memory_format=form)  # type: ignore[call-overload]  # its overloads lack the format
    text = None if captions is None else TextTokenizer.load(captions.tokenizer)
    images = ImageShards.open(shards)
    most = 0 if captions is None else captions.most
    return Encoder(model, images, settings, text, most, threads, SourceNames(images))


Tokens = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Codes and positions [B, N] of a batch."""


@dataclass(frozen=True)
class Encoder:
    """A worker's MQ-VAE, what is known of the images, the settings, how captions are stored (where they are), how many
    threads decode images, and where images came from.
    """

    model: MQVAE
    images: ImageShards
    settings: TokenizeSettings
    text: TextTokenizer | None
    most: int
    threads: int
    sources: SourceNames

    def __call__(self, job: ShardJob) -> dict[str, Any]:
        """Write a shard's tokens; returns its split, images, bytes, seconds and how often each code was chosen."""
        began = time.monotonic()
        split = job.input.parent.name
        copies = self.settings.copies if split == "train" else self.settings.copies[:1]
        batches = made_ahead(decoded, self.batches(self.images.encoded(job.input)), self.threads)
        sources, blocks = self.sources.of(job.input), []
        while found := self.blocks(batches, copies, sources):
            blocks += found
        images = sum(len(block.keys) for block in blocks)
        expected = self.images.facts.shards[split][int(job.input.stem)] * len(copies)
        if images != expected:
            wrong = f"{images:,} images with their copies, its manifest says {expected:,}"
            raise UserError(f"{job.input} gives {wrong}: run `dvc repro shard`")
        write_token_shard(job.output, blocks)
        counts = sum(
            np.bincount(block.codes.ravel(), minlength=self.model.config.num_codes) for block in blocks
        )
        return {
            "split": split,
            "images": images,
            "bytes": job.output.stat().st_size,
            "seconds": time.monotonic() - began,
            "code_counts": np.asarray(counts).tolist(),
        }

    def batches(self, samples: Iterator[Encoded]) -> Iterator[list[Encoded]]:
        """The images in batches, none of which lies in two blocks."""
        taken = 0
        while batch := list(islice(samples, min(self.settings.batch, self.settings.block - taken))):
            taken = (taken + len(batch)) % self.settings.block
            yield batch

    def blocks(
        self, batches: Iterator[list[ImageSample]], copies: Sequence[Copy], sources: dict[str, str]
    ) -> list[TokenBlock]:
        """The next images as a block a version, encoded batch by batch as they come; none where there are no more."""
        taken: list[ImageSample] = []
        tokens: list[list[Tokens]] = [[] for _ in copies]
        while len(taken) < self.settings.block and (batch := next(batches, None)):
            taken += batch
            for number, copy in enumerate(copies):
                tokens[number].append(self.tokens(batch, copy, number))
        names = named(taken, sources)
        return [self.block(taken, number, parts, names) for number, parts in enumerate(tokens) if parts]

    def block(
        self, samples: Sequence[ImageSample], number: int, parts: Sequence[Tokens], sources: tuple[str, ...]
    ) -> TokenBlock:
        """Version `number` of some images, whose codes, positions and sources are known, as a block."""
        codes, positions = (np.concatenate(part) for part in zip(*parts, strict=True))
        classes = [sample.cls for sample in samples if sample.cls is not None]
        captions = [sample.captions for sample in samples]
        return TokenBlock(
            keys=tuple(key_of(sample, number) for sample in samples),
            codes=codes.astype(np.uint16),
            mask=pack_positions(positions, self.model.config.num_positions),
            cls=np.array(classes, np.uint16) if self.images.facts.classes is not None else None,
            text=None
            if self.text is None
            else self.text.encode_lists(captions, self.most, self.settings.text_length),
            caption_count=None
            if self.text is None
            else np.array([len(found) for found in captions], np.uint8),
            sources=sources,
        )

    def tokens(self, samples: Sequence[ImageSample], copy: Copy, number: int) -> Tokens:
        """Codes and positions of version `number` of a batch; a random ranking follows from (seed, key)."""
        weight = next(self.model.parameters())
        ranking_BL = None
        if self.model.config.mask == "random":
            seeds = [
                sample_seed(self.settings.seed, 0, 0, f"mask/{key_of(sample, number)}") for sample in samples
            ]
            ranking_BL = random_ranking(seeds, self.model.config.num_positions).to(weight)
        images = np.stack([sample.image[:, ::-1] if copy.flip else sample.image for sample in samples])
        with autocast(self.settings.precision, weight.device):
            found = self.model.tokenize(to_tensor(images, weight.device).to(weight.dtype), ranking_BL)
        return found.codes_BN.cpu().numpy(), found.positions_BN.cpu().numpy()


def decoded(samples: Sequence[Encoded]) -> list[ImageSample]:
    """Samples from their bytes."""
    return [decode(key, members) for key, members in samples]


def key_of(sample: ImageSample, number: int) -> str:
    """The key of version `number` of an image."""
    return f"{sample.key}+{number}" if number else sample.key


def numbers(facts: TokenFacts, told: Sequence[dict[str, Any]], workers: int) -> dict[str, Score]:
    """Images, images a second of all workers together, how the training images use the codebook, bytes an image."""
    counts = np.sum([job["code_counts"] for job in told if job["split"] == "train"], axis=0)
    images = sum(facts.counts.values())
    stored = sum(job["bytes"] for job in told) / images
    rate = images * workers / sum(job["seconds"] for job in told)
    kept, cells = facts.num_kept, facts.grid[0] * facts.grid[1]
    values = {
        "images": (images, "copies included"),
        **{f"images_{split}": (count, "copies included") for split, count in facts.counts.items()},
        "images_per_second": (rate, "of all workers together, reading and writing included"),
        "codebook_usage": (usage(counts), "share of the codes chosen at least once by the training images"),
        "codebook_perplexity": (perplexity(counts), "exp entropy of the codes' frequencies, training images"),
        "bytes_per_image": (stored, "size of the tars, images of both splits"),
        "code_bits_per_image_raw": (raw_code_bits(kept, facts.num_codes), "N log₂ K"),
        "position_bits_per_image_raw": (raw_position_bits(kept, cells), "log₂ (L choose N)"),
    }
    return {name: Score(float(value), words) for name, (value, words) in values.items()}


STAGE = Stage("tokenize", __doc__, TokenizeSettings, Inputs, run)

if __name__ == "__main__":
    run_stage("tokenize")
