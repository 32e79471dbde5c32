"""Prefect flows. They run DVC as a process, and import no first-party code."""

import sys

if sys.argv[:1] == ["-m"]:  # only for `python -m pipelines.NAME`, not for importers
    import atexit
    import gc

    # Prefect's and DVC's modules are 200,000 objects: looking through them takes a third of a start, and of an end.
    gc.set_threshold(50_000, 20, 100)
    atexit.register(gc.freeze)
