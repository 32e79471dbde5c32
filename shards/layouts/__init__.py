"""Sources of images: one file per layout, and what the layouts share (listed, walking)."""
