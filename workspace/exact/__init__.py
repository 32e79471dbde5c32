"""Makes equal inputs give equal bytes: manifests and fingerprints, tars without timestamps, seeds, order of training data."""
