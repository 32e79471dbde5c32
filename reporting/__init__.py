"""Pictures, the single-file HTML report, and the comparison of two sets of numbers."""
