"""Quality of images by features, pixels, masks and codebooks: arrays or batches in, numbers out."""
