"""The paper's comparisons: arms of one experiment, each a list of settings, through the same stages."""

import sys

# only for the command that starts stages, not for importers
if sys.argv[:1] == ["-m"] and "experiments.arm" in sys.orig_argv:
    from workspace import garbage

    garbage.wait()  # until its `main`
