"""One file per stage: a worker that takes plain values, and a `main` that reads the stage's section of params.yaml."""

import sys

if sys.argv[:1] == ["-m"]:  # only for `python -m stages.NAME`, not for importers
    import atexit
    import signal

    from workspace import garbage
    from workspace.outputs import put_back
    from workspace.waiting import wait_by_load

    wait_by_load()
    garbage.wait()  # until `run_stage`

    # effective during imports too; the default handler would skip `put_back`
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # runs however the process ends, even after an unexpected exception
    atexit.register(put_back, sys.orig_argv)
