"""Pictures, the one-file HTML report, and the comparison of two sets of numbers."""
