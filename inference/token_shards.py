"""Image shards → blocks of tokens: every version of each image, with class, captions and source."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from inference.budgets import Distance, Plan, RaggedArrays, encode_within
from inference.encode import KeyedImages, TokenArrays, encode
from models.mqvae import MQVAE, MQVAEConfig
from settings.tokenize import Augmentation, TokenizeSettings
from shards.images import SPLITS, Encoded, ImageSample, ImageShards
from shards.text import TextTokenizer, captions_of
from shards.token_making.source_names import named
from shards.token_making.writing import pack_flat, pack_positions
from shards.tokens import TokenFacts
from shards.tokens.blocks import TokenBlock, offsets_of
from workspace.errors import UserError
from workspace.progress import say

MOST_CAPTIONS = 255


@dataclass(frozen=True)
class Captions:
    """How captions are encoded and stored.

    Attributes:
        tokenizer: the tokenizer's file.
        most: captions per image that there is room for.
        length: codes per caption.
    """

    tokenizer: Path
    most: int
    length: int

    @cached_property
    def text(self) -> TextTokenizer:
        """The tokenizer, read once per process."""
        return TextTokenizer.load(self.tokenizer)

    def stored(self, samples: Sequence[ImageSample]) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
        """The captions' codes of B images, [B, most, length], and the number of captions of each, [B]."""
        lists = [sample.captions for sample in samples]
        codes = self.text.encode_lists(lists, self.most, self.length)
        return codes, np.array([len(found) for found in lists], np.uint8)


def learn_captions(settings: TokenizeSettings, shards: ImageShards, path: Path) -> Captions:
    """Train the BPE on the training captions and save it to `path`; counts all captions, for the storage needed.

    Raises:
        UserError: no training captions, or an image with more than 255.
    """
    found = {
        split: [captions for tar in shards.paths(split) for captions in captions_of(shards.tar(tar))]
        for split in SPLITS
    }
    train = [caption for captions in found["train"] for caption in captions]
    text = TextTokenizer.train(train, settings.text_vocab)
    cut = float((text.lengths(train) > settings.text_length).mean())
    if cut:
        say(f"{cut:.1%} of the captions are cut to tokenize.text_length = {settings.text_length} codes")
    most = max(len(captions) for split in SPLITS for captions in found[split])
    if most > MOST_CAPTIONS:
        raise UserError(f"an image of {shards.folder} has {most} captions; expected at most {MOST_CAPTIONS}")
    text.save(path)
    return Captions(path, most, settings.text_length)


@dataclass(frozen=True)
class BlockMaker:
    """Turns images into blocks.

    Attributes:
        model: the MQ-VAE that encodes them.
        settings: batch, block, seed and precision.
        classed: whether images have a class.
        captions: how captions are stored; None stores none.
        kept: N of all images; None takes the model's, or what `plan` gives each.
        plan: how many cells an image is given, where that differs.
        lpips: the perceptual distance, where the plan judges by it.
        quality: what the reconstructions of the last call of `blocks` are estimated at (`RaggedArrays`); where there is a plan.
    """

    model: MQVAE
    settings: TokenizeSettings
    classed: bool
    captions: Captions | None
    kept: int | None = None
    plan: Plan | None = None
    lpips: Distance | None = None
    quality: list[float] = field(default_factory=list)

    @cached_property
    def _compiled(self) -> Callable[..., Any] | None:
        method = self.model.tokenize if self.plan is None else self.model.tokenize_all
        return torch.compile(method) if self.settings.compile else None

    def batches(self, samples: Iterator[Encoded]) -> Iterator[list[Encoded]]:
        """Batches of images that never cross a block boundary."""
        taken = 0
        while batch := list(islice(samples, min(self.settings.batch, self.settings.block - taken))):
            taken = (taken + len(batch)) % self.settings.block
            yield batch

    def blocks(
        self,
        batches: Iterator[list[ImageSample]],
        augmentations: Sequence[Augmentation],
        sources: dict[str, str],
    ) -> Iterator[TokenBlock]:
        """Blocks of the images, one per version, encoded batch by batch as images arrive."""
        self.quality.clear()  # a shard that failed may have left some
        while True:
            taken: list[ImageSample] = []
            tokens: list[list[TokenArrays | RaggedArrays]] = [[] for _ in augmentations]
            while len(taken) < self.settings.block and (batch := next(batches, None)):
                taken += batch
                for number, augmentation in enumerate(augmentations):
                    tokens[number].append(self._tokens(batch, augmentation, number))
            if not taken:
                return
            names = named(taken, sources)
            for number, parts in enumerate(tokens):
                yield self._block(taken, number, parts, names)

    def _tokens(
        self, samples: Sequence[ImageSample], augmentation: Augmentation, number: int
    ) -> TokenArrays | RaggedArrays:
        images = np.stack(
            [sample.image[:, ::-1] if augmentation.flip else sample.image for sample in samples]
        )
        keys = [key_of(sample, number) for sample in samples]
        batch = KeyedImages(images, keys, self.settings.seed)
        precision = self.settings.precision
        if self.plan is None:
            return encode(self.model, batch, precision, self._compiled, self.kept)
        tokens = encode_within(self.model, batch, self.plan, precision, self._compiled, self.lpips)
        self.quality.extend(tokens.quality.tolist())
        return tokens

    def _block(
        self,
        samples: Sequence[ImageSample],
        number: int,
        parts: Sequence[TokenArrays | RaggedArrays],
        sources: tuple[str, ...],
    ) -> TokenBlock:
        """A block with version `number` of some images, from their codes, positions and sources."""
        codes, positions = (np.concatenate([part[column] for part in parts]) for column in (0, 1))
        length, offsets = self.model.config.num_positions, None
        if self.plan is None:
            kept = pack_positions(positions, length)
        else:
            lengths = np.concatenate([part.lengths for part in parts if isinstance(part, RaggedArrays)])
            kept, offsets = pack_flat(positions, lengths, length), offsets_of(lengths)
        classes = [sample.cls for sample in samples if sample.cls is not None]
        text, count = (None, None) if self.captions is None else self.captions.stored(samples)
        return TokenBlock(
            keys=tuple(key_of(sample, number) for sample in samples),
            codes=codes.astype(np.uint16),
            kept=kept,
            cls=np.array(classes, np.uint16) if self.classed else None,
            text=text,
            caption_count=count,
            sources=sources,
            offsets=offsets,
        )


def key_of(sample: ImageSample, number: int) -> str:
    """The key of version `number` of an image."""
    return f"{sample.key}+{number}" if number else sample.key


def token_facts(
    config: MQVAEConfig,
    kept: int | None,
    shards: ImageShards,
    captions: Captions | None,
    records: Sequence[Mapping[str, Any]],
    mqvae: str,
) -> TokenFacts:
    """The facts of the whole set; K is the MQ-VAE's, and N too, unless another one is requested.

    Args:
        config: the MQ-VAE's.
        kept: N, if another one is requested.
        shards: the images.
        captions: how captions are stored; None stores none.
        records: of each shard: split, number of images, and lengths where these differ.
        mqvae: the MQ-VAE's fingerprint.
    """
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
