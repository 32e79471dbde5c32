"""Run trained models: encode, decode, reconstruct and sample, as functions over batches, without the workflow."""
