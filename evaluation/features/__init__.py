"""What images are described by: feature extractors, labels, and the real images' features."""
