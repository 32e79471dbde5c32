"""Everything Ray: connect, train on many workers, map shards over actors. `compute.workers: 0` needs no Ray."""
