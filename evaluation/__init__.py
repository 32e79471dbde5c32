"""How good images are: features and their distances, pixels, masks, codebooks. Arrays or batches in, numbers out."""
