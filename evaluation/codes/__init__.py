"""Scores of codes alone: codebook use, and bits per image."""
