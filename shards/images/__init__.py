"""Reading image shards: the samples of an artifact, pictures from bytes, pixels as numbers."""

from shards.images.index import REMAKE, IndexRow
from shards.images.reading import (
    MOST_CLASSES,
    SKIPPED,
    SPLITS,
    Encoded,
    ImageFacts,
    ImageIndex,
    ImageSample,
    ImageShards,
    decode,
    read_shard,
    shard_path,
    tar_name,
)

__all__ = [
    "MOST_CLASSES",
    "REMAKE",
    "SKIPPED",
    "SPLITS",
    "Encoded",
    "ImageFacts",
    "ImageIndex",
    "ImageSample",
    "ImageShards",
    "IndexRow",
    "decode",
    "read_shard",
    "shard_path",
    "tar_name",
]
