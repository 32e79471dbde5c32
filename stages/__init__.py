"""One file per stage; each is a worker that takes plain values, and a `main` that reads one section of params.yaml."""

import gc
import sys

if sys.argv[:1] == ["-m"]:  # `python -m stages.NAME`, and nobody who imports a stage
    gc.disable()  # until `run_stage`: imports make no garbage, and looking for it takes 0.2 s of theirs
    import atexit
    import signal

    from workspace.outputs import put_back

    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(143)
    )  # while it imports, too; the default would skip the next line
    atexit.register(put_back, sys.orig_argv)  # however this ends, by a mistake in the code too
