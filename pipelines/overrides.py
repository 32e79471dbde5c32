"""A run's own settings: written to params.yaml while the run holds the workspace, and removed afterwards however the run ends.

    python -m pipelines.overrides        undo the settings of a run that was killed together with its keeper

DVC reads only params.yaml, and dvc.lock must record the values used. A run's settings are therefore written there one by one,
and a journal records the previous values. The user's edits in the meantime are kept: a value is restored only if it is still the
run's. A keeper, a separate process, waits for the workspace's lock and restores the values if the run was killed.
"""

import argparse
import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from pipelines.errors import RefusedError
from pipelines.home import lock
from pipelines.params import read, span, with_value, write

WORKSPACE, JOURNAL = Path(".runs/workspace.lock"), Path(".runs/overrides.json")


@contextmanager
def overridden(root: Path, changes: Sequence[str]) -> Iterator[None]:
    """Keep these settings in params.yaml within the block; the caller must hold the workspace's lock.

    Raises:
        RefusedError: a key that is not in the file.
    """
    if not changes:
        yield
        return
    _apply(root, changes, {})
    keeper = subprocess.Popen(
        [sys.executable, "-m", "pipelines.overrides", "--keep", str(root.resolve())],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[1])},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        take_back(root)
        keeper.kill()
        keeper.wait()


def apply_again(root: Path) -> None:
    """Before a stage: if the user has edited params.yaml meanwhile, write the run's settings over the edits, which will be
    restored at the end.

    Raises:
        RefusedError: a key is no longer in the file.
    """
    if (root / JOURNAL).is_file():
        journal = _journal(root)
        _apply(
            root, [change for change, _, _ in journal], {change: (old, new) for change, old, new in journal}
        )


def _apply(root: Path, changes: Sequence[str], known: dict[str, tuple[str, str]]) -> None:
    """Write the settings; the journal comes first, so that it is complete even after a kill in between."""
    text = before = read(root)
    journal = []
    for change in changes:
        text, old, new = with_value(text, change)
        journal.append((change, known[change][0] if old == new and change in known else old, new))
    if text != before or not known:
        _write_journal(root, journal)
        write(root, text)


def _journal(root: Path) -> list[tuple[str, str, str]]:
    return [
        (change, old, new) for change, old, new in json.loads((root / JOURNAL).read_text(encoding="utf-8"))
    ]


def _write_journal(root: Path, journal: Sequence[tuple[str, str, str]]) -> None:
    path = root / JOURNAL
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps(journal), encoding="utf-8")
    beside.replace(path)


def take_back(root: Path) -> list[str]:
    """Restore params.yaml's previous values where the run's values still are; the caller must hold the workspace's lock.

    Returns:
        The restored settings.
    """
    if not (root / JOURNAL).is_file():
        return []
    text = read(root)
    gone: list[str] = []
    for change, old, new in reversed(_journal(root)):
        with suppress(RefusedError, KeyError):  # the user removed the key, or is editing the file
            start, end = span(text, change.partition("=")[0].strip())
            if text[start:end] == new:
                text, gone = text[:start] + old + text[end:], [change, *gone]
    if gone:
        write(root, text)
    (root / JOURNAL).unlink()
    return gone


def restore(root: Path) -> list[str]:
    """Restore the settings of a dead run; nothing if a run is alive. Returns the restored settings."""
    with lock(root / WORKSPACE) as file:
        return take_back(root) if file is not None else []


def keep(root: Path) -> None:
    """Wait until the run and all its processes are gone, and restore its settings."""
    with (root / WORKSPACE).open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        take_back(root)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.overrides",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--keep", metavar="WORKSPACE", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.keep:
        keep(Path(given.keep))
        return
    for change in restore(Path()):
        sys.stdout.write(
            f"params.yaml: {change} was a killed run's setting; the previous value is restored\n"
        )


if __name__ == "__main__":
    main()
