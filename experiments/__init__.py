"""The paper's comparisons: arms of one experiment, each a list of settings, through the same stages."""
