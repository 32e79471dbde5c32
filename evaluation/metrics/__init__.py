"""Distances and shares that follow from features: Fréchet and kernel distance, precision, recall, steps at cells' borders."""
