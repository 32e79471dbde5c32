"""Metrics: Fréchet and kernel distance, precision, recall, brightness steps at cell borders."""
