"""Image shards → blocks of tokens: each image in its versions, with class, captions and source."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from inference.encode import KeyedImages, TokenArrays, encode
from models.mqvae import MQVAE
from models.mqvae.model import Tokens
from settings.tokenize import Augmentation, TokenizeSettings
from shards.images import SPLITS, Encoded, ImageSample, ImageShards
from shards.text import TextTokenizer, captions_of
from shards.token_making.source_names import named
from shards.token_making.writing import pack_positions
from shards.tokens.blocks import TokenBlock
from workspace.errors import UserError
from workspace.progress import say

MOST_CAPTIONS = 255


@dataclass(frozen=True)
class Captions:
    """How captions are stored.

    Attributes:
        tokenizer: a file.
        most: captions per image, room for so many.
        length: codes per caption.
    """

    tokenizer: Path
    most: int
    length: int

    @cached_property
    def text(self) -> TextTokenizer:
        """The tokenizer, read once in each process."""
        return TextTokenizer.load(self.tokenizer)

    def stored(self, samples: Sequence[ImageSample]) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
        """Codes of the captions of B images, [B, most, length], and how many each image has, [B]."""
        lists = [sample.captions for sample in samples]
        codes = self.text.encode_lists(lists, self.most, self.length)
        return codes, np.array([len(found) for found in lists], np.uint8)


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
    if most > MOST_CAPTIONS:
        raise UserError(f"an image of {shards.folder} has {most} captions; expected at most {MOST_CAPTIONS}")
    text.save(path)
    return Captions(path, most, settings.text_length)


@dataclass(frozen=True)
class BlockMaker:
    """Turns images into blocks.

    Attributes:
        model: encodes them.
        settings: batch, block, seed and precision.
        classed: whether images have a class.
        captions: how captions are stored; None stores none.
    """

    model: MQVAE
    settings: TokenizeSettings
    classed: bool
    captions: Captions | None

    @cached_property
    def _compiled(self) -> Callable[..., Tokens] | None:
        return torch.compile(self.model.tokenize) if self.settings.compile else None

    def batches(self, samples: Iterator[Encoded]) -> Iterator[list[Encoded]]:
        """The images in batches, none of which is in two blocks."""
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
        """Blocks of the images, one per version, encoded batch by batch as they come."""
        while True:
            taken: list[ImageSample] = []
            tokens: list[list[TokenArrays]] = [[] for _ in augmentations]
            while len(taken) < self.settings.block and (batch := next(batches, None)):
                taken += batch
                for number, augmentation in enumerate(augmentations):
                    tokens[number].append(self._tokens(batch, augmentation, number))
            if not taken:
                return
            names = named(taken, sources)
            for number, parts in enumerate(tokens):
                yield self._block(taken, number, parts, names)

    def _tokens(self, samples: Sequence[ImageSample], augmentation: Augmentation, number: int) -> TokenArrays:
        images = np.stack(
            [sample.image[:, ::-1] if augmentation.flip else sample.image for sample in samples]
        )
        keys = [key_of(sample, number) for sample in samples]
        batch = KeyedImages(images, keys, self.settings.seed)
        return encode(self.model, batch, self.settings.precision, self._compiled)

    def _block(
        self,
        samples: Sequence[ImageSample],
        number: int,
        parts: Sequence[TokenArrays],
        sources: tuple[str, ...],
    ) -> TokenBlock:
        """Version `number` of some images, whose codes, positions and sources are known, as a block."""
        codes, positions = (np.concatenate(part) for part in zip(*parts, strict=True))
        classes = [sample.cls for sample in samples if sample.cls is not None]
        text, count = (None, None) if self.captions is None else self.captions.stored(samples)
        return TokenBlock(
            keys=tuple(key_of(sample, number) for sample in samples),
            codes=codes.astype(np.uint16),
            kept=pack_positions(positions, self.model.config.num_positions),
            cls=np.array(classes, np.uint16) if self.classed else None,
            text=text,
            caption_count=count,
            sources=sources,
        )


def key_of(sample: ImageSample, number: int) -> str:
    """The key of version `number` of an image."""
    return f"{sample.key}+{number}" if number else sample.key
