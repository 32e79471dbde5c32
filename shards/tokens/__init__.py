"""Reading token shards: blocks of codes and positions, and the facts of the whole set."""

from shards.tokens.blocks import ARRAYS, TokenBlock, flat_positions, read_token_shard, unpack_positions
from shards.tokens.mapped import MappedTokens, TokenRows
from shards.tokens.reading import TEXT_TOKENIZER, TokenFacts, TokenShards, TokenSplit, check_block, sources_of

__all__ = [
    "ARRAYS",
    "TEXT_TOKENIZER",
    "MappedTokens",
    "TokenBlock",
    "TokenFacts",
    "TokenRows",
    "TokenShards",
    "TokenSplit",
    "check_block",
    "flat_positions",
    "read_token_shard",
    "sources_of",
    "unpack_positions",
]
