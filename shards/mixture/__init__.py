"""Several sets mixed by weight."""
