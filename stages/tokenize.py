"""tokenize: every image of the shards → its kept codes and where they sit (paper section 3.2, Eq. 1-4).

Reads   image shards, MQ-VAE
Writes  token shards: blocks of codes and position bitmasks (DESIGN section 3)
Params  tokenize
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, PositiveInt

from cluster.devices import device_of
from cluster.shard_map import ShardJob, map_shards
from models.masker import random_ranking
from models.mqvae import MQVAE, Tokens
from shards.images import SPLITS, ImageSample, ImageShards, to_float
from shards.order import sample_seed
from shards.text import TextTokenizer
from shards.tokens import (
    TEXT_TOKENIZER,
    TokenBlock,
    TokenFacts,
    pack_positions,
    write_token_manifest,
    write_token_shard,
)
from workspace.errors import UserError
from workspace.manifest import read_manifest, write_json
from workspace.runs import RunFolder
from workspace.settings import Compute, Params, Settings
from workspace.stage import run_stage


class Copy(Settings):
    """One version of each training image."""

    flip: bool = Field(description="mirrored left to right")


class TokenizeSettings(Settings):
    """Section `tokenize`."""

    batch: PositiveInt = Field(description="images a forward pass")
    block: PositiveInt = Field(description="images a block of the token shards")
    copies: list[Copy] = Field(
        description="versions of each training image; the first is the plain one", min_length=1
    )
    text_vocab: NonNegativeInt = Field(description="BPE codes of captions; 0 stores no captions", le=65535)
    text_length: NonNegativeInt = Field(description="codes a caption")
    seed: NonNegativeInt = Field(description="of random masks")


SECTION, SETTINGS = "tokenize", TokenizeSettings


@dataclass(frozen=True)
class Inputs:
    """Paths that the stage reads."""

    shards: Path
    mqvae: Path


def check(params: Params) -> None:
    """The first copy is the image itself; captions need a length."""
    settings = params.section(TokenizeSettings)
    where = f"{params.path}: tokenize"
    if settings.copies[0].flip:
        raise UserError(f"{where}.copies starts with a flipped copy; expected {{flip: false}} first")
    if bool(settings.text_vocab) != bool(settings.text_length):
        raise UserError(
            f"{where}.text_vocab is {settings.text_vocab} and text_length {settings.text_length}; expected both 0 or both > 0"
        )


def run(settings: TokenizeSettings, compute: Compute, inputs: Inputs, folder: RunFolder) -> None:
    """Encode shard by shard, then write down what is true of all of them."""
    began = time.monotonic()
    shards, made_by = ImageShards.open(inputs.shards), read_manifest(inputs.mqvae, "mqvae")
    config = MQVAE.from_pretrained(inputs.mqvae).config
    shards.require(image_size=config.image_size)
    text_path = folder.work.resolve() / TEXT_TOKENIZER if settings.text_vocab else None
    text = None if text_path is None else train_text(settings, shards, text_path)
    tar_folder = folder.work.resolve() / "tars"
    paths = Inputs(inputs.shards.resolve(), inputs.mqvae.resolve())
    make = partial(encoding, paths, settings, text_path, compute.device)
    found = [(split, path) for split in SPLITS for path in shards.paths(split)]
    jobs = [
        ShardJob(path.resolve(), tar_folder / f"{split}-{path.name}", number)
        for number, (split, path) in enumerate(found)
    ]
    told = map_shards(make, jobs, compute, folder.work.resolve() / "done", "tokenize", folder.progress_file)
    for (split, path), job in zip(found, jobs, strict=True):
        target = folder.out / split / path.name
        target.parent.mkdir(exist_ok=True)
        target.hardlink_to(job.output)
    if text is not None:
        text.save(folder.out / TEXT_TOKENIZER)
    counts = {split: sum(fact["images"] for fact in told if fact["split"] == split) for split in SPLITS}
    facts = TokenFacts(
        grid=(config.grid, config.grid),
        num_codes=config.num_codes,
        num_kept=config.num_kept,
        classes=shards.facts.classes,
        text_length=settings.text_length or None,
        text_vocab=None if text is None else text.vocab,
        counts=counts,
        mask=config.mask,
        mqvae=made_by.fingerprint,
    )
    made_from = {"shards": shards.manifest.fingerprint, "mqvae": made_by.fingerprint}
    write_token_manifest(folder.out, facts, made_from)
    write_json(folder.metrics / "metrics.json", numbers(facts, told, time.monotonic() - began, folder.out))


def train_text(settings: TokenizeSettings, shards: ImageShards, path: Path) -> TextTokenizer:
    """A BPE of the training captions, kept at `path` for the workers."""
    index = shards.index("train")
    captions = [caption for item in range(len(index)) for caption in index.read(item).captions]
    text = TextTokenizer.train(captions, settings.text_vocab)
    text.save(path)
    return text


def encoding(
    paths: Inputs, settings: TokenizeSettings, text_path: Path | None, device: str
) -> Callable[[ShardJob], dict[str, Any]]:
    """Made once a worker: the function that turns an image shard into a token shard."""
    shards = ImageShards.open(paths.shards)
    model = MQVAE.from_pretrained(paths.mqvae).to(device_of(device))
    text = None if text_path is None else TextTokenizer.load(text_path)
    most = max_captions(shards) if text is not None else 0
    indices = {split: shards.index(split) for split in SPLITS}

    def one(job: ShardJob) -> dict[str, Any]:
        split = job.input.parent.name
        index = indices[split]
        counts = np.zeros(model.config.num_codes, np.int64)

        def blocks() -> Iterator[TokenBlock]:
            for number, copy in enumerate(settings.copies if split == "train" else settings.copies[:1]):
                items = index.indices_of(job.input)
                for first in range(0, len(items), settings.block):
                    block = encode_block(
                        model, index.read, items[first : first + settings.block], copy, number, settings
                    )
                    counts.__iadd__(np.bincount(block.codes.ravel(), minlength=len(counts)))
                    yield with_text(
                        block, index.read, items[first : first + settings.block], text, settings, most
                    )

        found = list(blocks())
        write_token_shard(job.output, found)
        return {
            "split": split,
            "images": sum(len(block.keys) for block in found),
            "code_counts": counts.tolist(),
        }

    return one


def max_captions(shards: ImageShards) -> int:
    """C: the most captions that any image has."""
    most = 0
    for split in SPLITS:
        index = shards.index(split)
        most = max(most, *(len(index.read(item).captions) for item in range(len(index))))
    return most


Read = Callable[[int], ImageSample]


def encode_block(
    model: MQVAE, read: Read, items: Sequence[int], copy: Copy, number: int, settings: TokenizeSettings
) -> TokenBlock:
    """Codes, positions, keys and classes of some images, in one version of them."""
    samples = [read(item) for item in items]
    images = np.stack([sample.image[:, ::-1] if copy.flip else sample.image for sample in samples])
    tokens = [
        encode_batch(
            model,
            images[first : first + settings.batch],
            items[first : first + settings.batch],
            settings.seed,
        )
        for first in range(0, len(items), settings.batch)
    ]
    codes = np.concatenate([part.codes_BN.cpu().numpy() for part in tokens])
    positions = np.concatenate([part.positions_BN.cpu().numpy() for part in tokens])
    classes = [sample.cls for sample in samples]
    return TokenBlock(
        keys=tuple(f"{sample.key}+{number}" if number else sample.key for sample in samples),
        codes=codes.astype(np.uint16),
        mask=pack_positions(positions, model.config.num_positions),
        cls=None if None in classes else np.array(classes, np.uint16),
        text=None,
        caption_count=None,
    )


def encode_batch(model: MQVAE, images: NDArray[np.uint8], items: Sequence[int], seed: int) -> Tokens:
    """Images uint8 [B, H, W, 3], which have these indices in their split → tokens."""
    parameter = next(model.parameters())
    image_BCHW = torch.from_numpy(to_float(images)).to(parameter)
    ranking_BL = None
    if model.config.mask == "random":
        seeds = [sample_seed(seed, 0, item, "mask") for item in items]
        ranking_BL = random_ranking(seeds, model.config.num_positions).to(parameter)
    return model.tokenize(image_BCHW, ranking_BL)


def with_text(
    block: TokenBlock,
    read: Read,
    items: Sequence[int],
    text: TextTokenizer | None,
    settings: TokenizeSettings,
    most: int,
) -> TokenBlock:
    """The block with its captions in codes, where captions are wanted."""
    if text is None:
        return block
    codes = np.zeros((len(items), most, settings.text_length), np.uint16)
    counts = np.zeros(len(items), np.uint8)
    for row, item in enumerate(items):
        captions = read(item).captions
        counts[row] = len(captions)
        codes[row, : len(captions)] = text.encode(captions, settings.text_length)
    return TokenBlock(block.keys, block.codes, block.mask, block.cls, codes, counts)


def numbers(facts: TokenFacts, told: Sequence[dict[str, Any]], seconds: float, out: Path) -> dict[str, float]:
    """Counts, rate, codebook usage and perplexity over the training split, bytes an image."""
    counts = np.sum([fact["code_counts"] for fact in told if fact["split"] == "train"], axis=0)
    share = counts / counts.sum()
    images = sum(facts.counts.values())
    stored = sum(path.stat().st_size for path in out.rglob("*.tar"))
    return {
        **{f"images_{split}": count for split, count in facts.counts.items()},
        "images_per_second": images / seconds,
        "codebook_usage": float((counts > 0).mean()),
        "codebook_perplexity": float(np.exp(-np.sum(share * np.log(np.maximum(share, 1e-12))))),
        "bytes_per_image": stored / images,
    }


if __name__ == "__main__":
    run_stage("tokenize")
