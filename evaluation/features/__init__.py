"""Descriptions of images: feature extractors, labels, and the real images' features."""
