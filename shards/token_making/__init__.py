"""Writes a token set: blocks and manifest, README, codes of captions, source names."""
