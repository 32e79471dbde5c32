"""What a user types, done in this process: for tests of what a command does with its words.

PyTorch's import takes 1.5 CPU seconds of a process, DVC's 0.5. That a command's process starts, ends and hears signals is
for tests that use `tests.tiny.run`.
"""

import importlib
import logging
import os
import shlex
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, chdir, contextmanager, redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path

import pytest

from tests.committed import ROOT
from workflow.running import run_stage

BIN = Path(sys.executable).parent
IDENTITY = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "test"), ("EMAIL", "test@example.invalid"))
}
LOGGERS = ("dvc", "dvc_objects", "dvc_data")
"""What DVC gives handlers; they write to the stdout and stderr of the moment when they were made."""


def environment(folder: Path) -> dict[str, str]:
    """This process's, with first-party code from `folder`; its bytecode is kept there, and copies of the folder have it."""
    left_out = "" if folder == ROOT else "PYTHONDONTWRITEBYTECODE"
    return {
        **{name: value for name, value in os.environ.items() if name != left_out},
        "PYTHONPATH": str(folder),
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
    }


def typed(folder: Path, *command: str, check: bool = True, stages_here: bool = False) -> str:
    """`run` of `dvc …` or `python -m MODULE …` in this process: everything that it and its processes said.

    First-party code is that of this process; what DVC starts has that of the folder. With `stages_here` DVC starts no process
    for a stage either: for tests of what DVC runs, and what comes of it, in a copy whose code is the working tree's.
    """
    if command[0] == "dvc":
        with ExitStack() as stack:
            stack.enter_context(_dvcs_logging())
            stack.enter_context(_as_a_process(["dvc", *command[1:]], environment(folder) | IDENTITY))
            if stages_here:
                stack.enter_context(_dvcs_stages_here())
            return _said(folder, partial(_dvc, command[1:]), check)
    assert command[:2] == ("python", "-m"), command
    with _as_a_process([*command[2:]], os.environ):
        return _said(folder, _main_of(command[2]), check)


def _main_of(module: str) -> Callable[[], object]:
    package, _, name = module.partition(".")
    if package == "stages":
        return partial(run_stage, name)
    main: Callable[[], object] = importlib.import_module(module).main
    return main


def _dvc(words: tuple[str, ...]) -> None:
    import dvc.logger
    from dvc.cli import main

    for name in LOGGERS:
        logging.getLogger(name).handlers.clear()
    dvc.logger.setup()
    sys.exit(main(list(words)))


@contextmanager
def _dvcs_stages_here() -> Iterator[None]:
    """DVC calls the modules that its stages' commands name; one that exits with another status than 0 has failed for DVC."""
    from dvc.stage import run
    from dvc.stage.exceptions import StageCmdFailedError

    def called(executable: str | None, command: str, *, cwd: str, env: dict[str, str], **_: object) -> None:
        words = shlex.split(command)
        assert words[:2] == ["python", "-m"], command
        log = logging.getLogger("dvc")
        level = log.level
        with chdir(cwd), _as_a_process(words[2:], env):
            try:
                _main_of(words[2])()
            except SystemExit as end:
                if end.code:
                    raise StageCmdFailedError(command, 1) from end
            finally:
                log.setLevel(level)  # DVCLive silences it

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "_run", called)
        yield


@contextmanager
def _dvcs_logging() -> Iterator[None]:
    """DVC's handlers are those of before, afterwards."""
    before = {name: logging.getLogger(name).handlers[:] for name in LOGGERS}
    try:
        yield
    finally:
        for name, handlers in before.items():
            logging.getLogger(name).handlers[:] = handlers


def _said(folder: Path, main: Callable[[], object], check: bool) -> str:
    """What a program's `main` and the processes that it starts write, in the order in which they do."""
    status: object = 0
    with tempfile.TemporaryFile() as file:
        with chdir(folder), _written_to(file.fileno()):
            try:
                main()
            except SystemExit as end:
                status = end.code or 0
                if not isinstance(status, int):
                    sys.stderr.write(f"{status}\n")
        file.seek(0)
        words = file.read().decode()
    assert not check or status == 0, words
    return words


@contextmanager
def _written_to(descriptor: int) -> Iterator[None]:
    """This process's stdout and stderr, and those of the processes that it starts meanwhile."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(number) for number in (1, 2)]
    try:
        for number in (1, 2):
            os.dup2(descriptor, number)
        with (
            open(1, "w", encoding="utf-8", closefd=False, buffering=1) as out,
            redirect_stdout(out),
            redirect_stderr(out),
        ):
            yield
    finally:
        for number, before in zip((1, 2), kept, strict=True):
            os.dup2(before, number)
            os.close(before)


@contextmanager
def _as_a_process(words: list[str], environ: "dict[str, str] | os._Environ[str]") -> Iterator[None]:
    """The arguments, environment and signal handlers that a command changes are its own."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    kept = dict(os.environ)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", words)
        try:
            _set(dict(environ))
            yield
        finally:
            _set(kept)
            for number, handler in handlers.items():
                signal.signal(number, handler)


def _set(environ: dict[str, str]) -> None:
    for name in os.environ.keys() - environ.keys():
        del os.environ[name]
    os.environ.update(environ)
