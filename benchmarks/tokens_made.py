"""A token data set of random images, as large as a row asks for."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from shards.token_making.writing import pack_positions, write_token_manifest, write_token_shard
from shards.tokens import TokenFacts, TokenShards
from shards.tokens.blocks import TokenBlock


def write_random_tokens(folder: Path, facts: TokenFacts, block: int, shard: int) -> TokenShards:
    """Write and open it.

    Args:
        folder: where.
        facts: sizes and counts; its classes are drawn too.
        block: images per block.
        shard: images per tar.
    """
    generator = np.random.default_rng(0)
    for split, count in facts.counts.items():
        for number, first in enumerate(range(0, count, shard)):
            names = range(first, min(first + shard, count))
            write_token_shard(folder / split / f"{number:06d}.tar", _blocks(names, facts, block, generator))
    write_token_manifest(folder, facts, {"mqvae": facts.mqvae})
    return TokenShards.open(folder)


def _blocks(
    names: range, facts: TokenFacts, block: int, generator: np.random.Generator
) -> Iterator[TokenBlock]:
    for first in range(0, len(names), block):
        part = names[first : first + block]
        size = (len(part), facts.num_kept)
        ranks = generator.random((len(part), facts.num_positions), dtype=np.float32)
        positions = np.argpartition(ranks, facts.num_kept - 1, axis=1)[:, : facts.num_kept]
        yield TokenBlock(
            keys=tuple(f"{name:08d}" for name in part),
            codes=generator.integers(facts.num_codes, size=size, dtype=np.uint16),
            kept=pack_positions(positions, facts.num_positions),
            cls=generator.integers(len(facts.classes or ("",)), size=len(part)).astype(np.uint16),
            text=None,
            caption_count=None,
        )
