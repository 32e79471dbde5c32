"""Published classifiers, and the perceptual distance based on them, also used in training."""
