"""WebDataset shards: image shards and token shards, their writers, readers, order and checks. No models."""
