"""One file a stage; each is a worker that takes plain values, and a `main` that reads one section of params.yaml."""

import gc
import sys

if sys.argv[:1] == ["-m"]:  # `python -m stages.NAME`, and nobody who imports a stage
    gc.disable()  # until `run_stage`: imports make no garbage, and looking for it takes 0.2 s of theirs
