"""Published classifiers and the perceptual distance on them, which training uses too."""
