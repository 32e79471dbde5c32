"""From a source of images to image shards: listing, decoding and resizing, splits, duplicates, writing."""
