"""Running trained models: encode, decode, reconstruct and sample, as functions over batches that need no workflow."""
