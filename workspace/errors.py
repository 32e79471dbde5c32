"""The exception whose message is meant for the user, and the recognition of a full disk or memory."""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class UserError(ValueError):
    """A user's mistake: one line with the fault, the value, the expectation, and the command to type.

    A stage's `main` prints it without a traceback and exits with status 1.
    """


@contextmanager
def mistakes_in_one_line() -> Iterator[None]:
    """Within the block a user's mistake ends the process: its line on standard error, exit status 1, no traceback."""
    try:
        yield
    except UserError as error:
        sys.exit(str(error))


FULL = "No space left on device"


def is_out_of_space(error: BaseException) -> bool:
    """Whether an error, raised here or reported by a worker, means that a disk or quota is full."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return FULL in str(error)


def out_of_space(error: BaseException) -> UserError:
    """The error as a message for the user."""
    name = getattr(error, "filename2", None) or getattr(error, "filename", None)
    where = f" for {name}" if name else ""
    return UserError(
        f"no space is left on the disk{where}: free some and run the same command again; what is finished is kept"
    )


OUT_OF_MEMORY = ("out of memory", "outofmemory", "can't allocate memory", "memoryerror", "low on memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error, raised here or reported by a worker, means that memory ran out."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(words in text for words in OUT_OF_MEMORY)


class RegroupError(RuntimeError):
    """A group of workers ended itself after a checkpoint, so that a larger one may start from there."""


class PeerLostError(RuntimeError):
    """A collective failed because a worker, its node or the network is gone. The group may start again."""
