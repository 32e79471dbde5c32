"""Trained models at work: encode, decode, reconstruct and draw, as functions over batches that need no workflow around them."""
