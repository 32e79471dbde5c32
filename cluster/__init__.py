"""Everything that uses Ray: connecting, training on many workers, mapping shards over actors. `compute.workers: 0` needs none."""
