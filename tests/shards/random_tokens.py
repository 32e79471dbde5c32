"""Random token data sets for the tests of shards/."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from shards.text import TextTokenizer
from shards.token_making.writing import pack_positions, write_token_manifest, write_token_shard
from shards.tokens import TEXT_TOKENIZER, TokenFacts
from shards.tokens.blocks import TokenBlock


@dataclass(frozen=True)
class Kind:
    """What a data set is like: images of its one training block, N, L, K, and what they are asked for by."""

    images: int
    kept: int
    length: int
    codes: int
    classes: bool
    captions: int
    sources: bool = True


def facts_of(kind: Kind) -> TokenFacts:
    """Two training blocks and one validation block of `kind.images` images."""
    return TokenFacts(
        grid=(1, kind.length),
        num_codes=kind.codes,
        num_kept=kind.kept,
        classes=("cat", "dog") if kind.classes else None,
        text_length=5 if kind.captions else None,
        text_vocab=300 if kind.captions else None,
        counts={"train": 2 * kind.images, "val": kind.images},
        mask="adaptive",
        mqvae="0" * 64,
        sources=kind.sources,
        shards={"train": (kind.images, kind.images), "val": (kind.images,)},
    )


def block_of(kind: Kind, name: str, seed: int = 0) -> TokenBlock:
    """A random block; keys begin with `name`."""
    generator = np.random.default_rng([seed, *name.encode()])
    order = np.stack([generator.permutation(kind.length)[: kind.kept] for _ in range(kind.images)])
    text = generator.integers(1, 300, size=(kind.images, kind.captions, 5)).astype(np.uint16)
    counts = generator.integers(kind.captions + 1, size=kind.images).astype(np.uint8)
    return TokenBlock(
        keys=tuple(f"{name}{number:03d}" for number in range(kind.images)),
        codes=generator.integers(kind.codes, size=(kind.images, kind.kept)).astype(np.uint16),
        kept=pack_positions(order, kind.length),
        cls=generator.integers(2, size=kind.images).astype(np.uint16) if kind.classes else None,
        text=text if kind.captions else None,
        caption_count=counts if kind.captions else None,
        sources=tuple(f"cat/{name} {number}.jpg" for number in range(kind.images)) if kind.sources else None,
    )


@dataclass(frozen=True)
class Written:
    """A data set on disk and the blocks that went in: two of train in two tars, one of val."""

    folder: Path
    facts: TokenFacts
    train: tuple[TokenBlock, TokenBlock]


def write(
    folder: Path, kind: Kind, change: Callable[[TokenBlock], TokenBlock] = lambda block: block
) -> Written:
    """Write a data set; `change` alters its second training block, after which its manifest is honest about the bytes."""
    train = (block_of(kind, "a"), change(block_of(kind, "b")))
    for number, block in enumerate(train):
        write_token_shard(folder / "train" / f"{number:06d}.tar", [block])
    write_token_shard(folder / "val" / "000000.tar", [block_of(kind, "a")])
    if kind.captions:
        TextTokenizer.train(["a cat", "a dog"], 257).save(folder / TEXT_TOKENIZER)
    facts = facts_of(kind)
    write_token_manifest(folder, facts, {"mqvae": facts.mqvae})
    return Written(folder, facts, train)


USUAL = Kind(images=3, kept=4, length=13, codes=7, classes=True, captions=2)


def joined(blocks: Sequence[TokenBlock], field: str) -> NDArray[Any]:
    """A member of several blocks, one after the other."""
    return np.concatenate([getattr(block, field) for block in blocks])


@st.composite
def kinds(draw: st.DrawFn) -> Kind:
    """All sorts of data sets: with and without classes and captions, N = L too."""
    length = draw(st.integers(1, 40))
    return Kind(
        images=draw(st.integers(1, 5)),
        kept=draw(st.integers(1, length)),
        length=length,
        codes=draw(st.sampled_from([1, 2, 1024, 65536])),
        classes=draw(st.booleans()),
        captions=draw(st.integers(0, 3)),
        sources=draw(st.booleans()),
    )
