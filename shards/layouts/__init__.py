"""Where images come from: one file per layout of a source, and what they share (listed, walking)."""
