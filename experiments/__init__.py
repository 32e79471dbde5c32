"""The paper's comparisons: arms of one experiment, each a list of settings, through the same stages."""

import sys

if (
    sys.argv[:1] == ["-m"] and "experiments.arm" in sys.orig_argv
):  # the one that starts stages; not for importers
    from workspace import garbage

    garbage.wait()  # until its `main`
