"""The paper's comparisons: arms of one experiment, each a list of settings, through the same stages."""

import sys

if sys.argv[:1] == ["-m"]:  # only for `python -m experiments.NAME`, not for importers
    from workspace import garbage

    garbage.wait()  # until the first stage, or the end
