"""Making a token set: its blocks and manifest, its README, the codes of captions, the names of sources."""
