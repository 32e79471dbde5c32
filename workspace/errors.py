"""The exception whose message is meant for the user, and the recognition of a full disk or memory."""

import errno
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class UserError(ValueError):
    """A user's mistake: one line with the fault, the value, the expectation, and the command to type.

    A stage's `main` prints it without a traceback and exits with status 1.
    """


MACHINE = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.EMFILE,
    errno.ENAMETOOLONG,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ELOOP,
    errno.EBUSY,
    errno.EIO,
    errno.ESTALE,
    errno.ENOTCONN,
)
"""File system errors that are the user's or the machine's fault, not a bug."""


def told_in_a_line(error: Exception) -> str | None:
    """The message for an error that is not a bug in the program; None if it may be one."""
    if isinstance(error, UserError):
        return str(error)
    if is_out_of_space(error):
        return str(out_of_space(error))
    if isinstance(error, OSError) and error.errno in MACHINE:
        return f"{_of_file(error)}; what is finished is kept"
    return None


def _of_file(error: OSError) -> str:
    """What failed with which file; of two, the one that was to be written."""
    return f"{error.filename2 or error.filename or 'a file'}: {(error.strerror or str(error)).lower()}"


@contextmanager
def mistakes_in_one_line() -> Iterator[None]:
    """Within the block of a command a user's mistake, or a file that is not as it should be, ends the process in one line.

    It is written to standard error without a traceback. The exit status is 1, after Ctrl-C 130. A reader of the output that
    leaves before its end (`| head`) ends it without a word.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # what is still buffered goes there at the exit
        sys.exit(0)
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        sys.exit(130)
    except UserError as error:
        sys.exit(str(error))
    except OSError as error:
        if error.errno is None:
            raise
        sys.exit(str(out_of_space(error)) if is_out_of_space(error) else _of_file(error))


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


SOURCE = re.compile(r"^(\[[^\]]*\]\s*)+")
"""What gloo puts before a message: `[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:547]`."""
ADDRESS = re.compile(r"\s*\[[0-9A-Fa-f.:]+\](:\d+)?")
"""What it puts after one: `[127.0.0.1]:40711`."""


class RegroupError(RuntimeError):
    """A group of workers ended itself after a checkpoint, so that a larger one may start from there."""


class PeerLostError(RuntimeError):
    """A collective failed because a worker, its node or the network is gone. The group may start again."""

    @classmethod
    def of(cls, error: BaseException) -> "PeerLostError":
        """From an error of gloo or NCCL: its first sentence, without the line of the library's source and the peer's address."""
        first = next(iter(str(error).strip().splitlines()), "")
        reason = SOURCE.sub("", first).split(". ")[0]
        return cls(
            f"the connection to another worker is lost: {ADDRESS.sub('', reason).strip() or type(error).__name__}"
        )
