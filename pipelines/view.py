"""Makes the paper's tables visible to DVC while a command runs; otherwise .dvcignore hides their 150 stages from DVC's commands.

python -m pipelines.view dvc status experiments/table6/dvc.yaml

Used by `make table6` and similar targets, and by the Prefect flow `tables`. Several commands at once share the view, and the last
one closes it. A killed process leaves it open; every DVC command then sees the tables until the next command here ends.
"""

import argparse
import fcntl
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

VIEW = Path("experiments", ".dvcignore")
"""Ignored by Git. A deeper .dvcignore overrides the root's, so this one makes visible what that hides
(tests/pipelines/test_view.py)."""
LOCK = Path(".runs", "tables.lock")


@contextmanager
def tables_in_view(root: Path) -> Iterator[None]:
    """Let DVC see `experiments/*/dvc.yaml` below a workspace's root, until the last concurrent user is done."""
    if not (root / VIEW).parent.is_dir():
        yield
        return
    (root / LOCK).parent.mkdir(exist_ok=True)
    with (root / LOCK).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)  # a shared lock, which the system releases however a process ends
        (root / VIEW).write_text("!/*/dvc.yaml\n", encoding="utf-8")
        try:
            yield
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)
            _close_if_last(root, lock.fileno())


def _close_if_last(root: Path, lock: int) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return  # another process still uses the view, or is closing it
    (root / VIEW).unlink(missing_ok=True)


def run(command: list[str]) -> int:
    """Run a command with the tables visible; returns its exit status.

    It gets Ctrl-C from the terminal, and SIGTERM is passed on. In both cases this waits for its end, so that DVC keeps the same
    view until it has finished.
    """
    started: list[subprocess.Popen[bytes]] = []
    asked: list[int] = []

    def pass_on(number: int, _: object) -> None:
        asked.append(number)
        for process in started:
            process.send_signal(number)

    signal.signal(signal.SIGINT, lambda *_: None)
    signal.signal(signal.SIGTERM, pass_on)
    with tables_in_view(Path()):
        process = subprocess.Popen(command)
        started.append(process)
        if asked:  # SIGTERM arrived before the command was started
            process.terminate()
        status = process.wait()
    return status if status >= 0 else 128 - status


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.view",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, help="the command to run, for example dvc")
    command = parser.parse_args().command
    if not command:
        parser.error("expected a command, for example: dvc status experiments/table6/dvc.yaml")
    sys.exit(run(command))


if __name__ == "__main__":
    main()
