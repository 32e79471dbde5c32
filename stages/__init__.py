"""One file per stage: a worker that takes plain values, and a `main` that reads the stage's section of params.yaml."""

import gc
import sys

if sys.argv[:1] == ["-m"]:  # only for `python -m stages.NAME`, not for importers
    gc.disable()  # until `run_stage`: imports leave no garbage, and collecting it would take 0.2 s
    import atexit
    import signal

    from workspace.outputs import put_back

    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(143)
    )  # effective during imports too; the default handler would skip `put_back`
    atexit.register(
        put_back, sys.orig_argv
    )  # runs however the process ends, even after an unexpected exception
