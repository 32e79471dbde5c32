"""Makes image shards from a source: listing, decoding and resizing, splits, duplicates, writing."""
