"""Why equal inputs give equal bytes: manifests and fingerprints, tars without a time, seeds, the order of training data."""
