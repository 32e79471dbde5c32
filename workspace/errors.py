"""The exception whose message is meant for the user, and the recognition of a full disk or memory."""

import errno
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


class UserError(ValueError):
    """A user's mistake: one line with the fault, the value, the expectation, and the command to type.

    A stage's `main` prints it without a traceback and exits with status 1.
    """


MACHINE = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENAMETOOLONG,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ELOOP,
    errno.EBUSY,
    errno.EIO,
    errno.ESTALE,
    errno.ENOTCONN,
    errno.EFBIG,
    errno.ENXIO,
    errno.ENOLCK,
    errno.EOPNOTSUPP,
)
"""File system errors that are the user's or the machine's fault, not a bug."""
NETWORK = (
    errno.ECONNREFUSED,
    errno.ECONNRESET,
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
    errno.ETIMEDOUT,
    errno.EADDRINUSE,
    errno.EADDRNOTAVAIL,
)
"""Errors of a command that talks to another program."""
OF_A_NAME = (errno.ENOENT, errno.EEXIST, errno.ENOTEMPTY)
"""Errors that are the user's fault if the user named the file, and else a bug."""


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
    where = error.filename2 or error.filename or ("the network" if error.errno in NETWORK else "a file")
    return f"{os.fsdecode(where)}: {(error.strerror or str(error)).lower()}"


@contextmanager
def mistakes_in_one_line() -> Iterator[None]:
    """Within the block of a command a user's mistake, or a fault of the machine, ends the process in one line.

    It is written to standard error without a traceback, which a bug keeps: a bad descriptor, or a missing file that nobody
    named. The exit status is 1, after Ctrl-C 130. A reader of the output that leaves before its end (`| head`) ends it without
    a word.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        # what is still buffered goes nowhere at the exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        sys.exit(130)
    except UserError as error:
        sys.exit(str(error))
    except OSError as error:
        if is_out_of_space(error):
            sys.exit(str(out_of_space(error)))
        named = error.errno in OF_A_NAME and is_named(error, sys.argv[1:])
        if error.errno not in (*MACHINE, *NETWORK) and not named:
            raise
        sys.exit(_of_file(error))


def is_named(error: OSError, words: Sequence[str]) -> bool:
    """Whether an error is of a file that the user knows: at a path on the command line, or a visible one that others may name.

    Settings, listings and a home name files anywhere; hidden and temporary files and those of Python are the program's own.

    Args:
        error: with the file's name, if it has one.
        words: the command line; a path may follow `=`.
    """
    given = [Path(part).absolute() for word in words for part in (word, word.rpartition("=")[2]) if part]
    own = [Path(place) for place in (tempfile.gettempdir(), sys.prefix, "/proc", "/dev")]
    for name in (error.filename, error.filename2):
        if not isinstance(name, (str, bytes)):
            continue
        here = Path.cwd()
        path = here / os.fsdecode(name)
        if any(path.is_relative_to(one) for one in given):
            return True
        inside = path.is_relative_to(here)
        parts = (path.relative_to(here) if inside else path).parts
        hidden = any(part.startswith(".") and part != ".." for part in parts)
        if not hidden and (inside or not any(path.is_relative_to(place) for place in own)):
            return True
    return False


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


def first_line(error: BaseException) -> str:
    """An error in one line."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


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
