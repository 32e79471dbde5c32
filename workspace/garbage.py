"""When Python looks for garbage in a command: not while it imports, and not in what it imported.

PyTorch's modules are some 200,000 objects. Looking through them takes 0.2 CPU seconds during the imports and 0.4 at the end,
where all of them go anyway. Not so with Triton, which writes pages to stderr about each object that is left at the end.
"""

import atexit
import gc
import sys


def wait() -> None:
    """Leave garbage alone until `collect`, and what is there at the end of the process to its end."""
    gc.disable()
    atexit.register(_freeze)


def collect() -> None:
    """Look for garbage from now on, in what is made from now on; nothing where `wait` was not called."""
    if not gc.isenabled():
        _freeze()
        gc.enable()


def _freeze() -> None:
    if "triton" not in sys.modules:
        gc.freeze()
