"""The one exception whose message is meant for the person at the keyboard, and how a full disk or memory is recognised."""

import errno


class UserError(ValueError):
    """A user's mistake: one line that says what, which value, what is expected and what to type.

    A stage's `main` prints it without a traceback and exits with status 1.
    """


FULL = "No space left on device"


def is_out_of_space(error: BaseException) -> bool:
    """Whether an error, here or reported by a worker elsewhere, says that a disk or a quota is full."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return FULL in str(error)


def out_of_space(error: BaseException) -> UserError:
    """The same, for a person."""
    name = getattr(error, "filename2", None) or getattr(error, "filename", None)
    where = f" for {name}" if name else ""
    return UserError(
        f"no space is left on the disk{where}: free some and run the same command again; what is finished is kept"
    )


OUT_OF_MEMORY = ("out of memory", "outofmemory", "can't allocate memory", "memoryerror", "low on memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error, here or reported by a worker elsewhere, says that memory ran out."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(words in text for words in OUT_OF_MEMORY)


class PeerLostError(RuntimeError):
    """A sum over workers failed: one of them, its node or the network is gone. The group may start again."""
