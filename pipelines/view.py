"""The paper's tables in DVC's view while one command runs: else .dvcignore hides their 150 stages from `dvc status` and such.

python -m pipelines.view dvc status experiments/table6/dvc.yaml

`make table6` and its like, and the Prefect flow `tables`, go through here. Several at once share the view; the last to end
closes it. A process that is killed leaves it open, which shows the tables to every DVC command until the next one ends here.
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
"""Git ignores it. A deeper .dvcignore has the last word: it takes back what the root's hides (tests/pipelines/test_view.py)."""
LOCK = Path(".runs", "tables.lock")


@contextmanager
def tables_in_view(root: Path) -> Iterator[None]:
    """Let DVC see `experiments/*/dvc.yaml` below a workspace's root until the last of those who ask is done."""
    if not (root / VIEW).parent.is_dir():
        yield
        return
    (root / LOCK).parent.mkdir(exist_ok=True)
    with (root / LOCK).open("a") as lock:
        fcntl.flock(
            lock, fcntl.LOCK_SH
        )  # held by each of them, and let go by the system whatever ends a process
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
        return  # another one is looking, or closing
    (root / VIEW).unlink(missing_ok=True)


def run(command: list[str]) -> int:
    """Run a command with the tables in view; returns its exit status.

    Ctrl-C reaches it from the terminal; SIGTERM is passed on. Either way its end is waited for, so that DVC never runs without
    the view that it began with.
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
        if asked:  # before there was anyone to pass it on to
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
    parser.add_argument("command", nargs=argparse.REMAINDER, help="what to run, dvc for example")
    command = parser.parse_args().command
    if not command:
        parser.error("expected a command, for example: dvc status experiments/table6/dvc.yaml")
    sys.exit(run(command))


if __name__ == "__main__":
    main()
