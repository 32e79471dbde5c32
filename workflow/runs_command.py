"""`python -m workspace.runs`: list, drop and adopt the runs in `.runs`."""

import argparse
import os
import sys
import time
from contextlib import suppress

from settings.schedule import codebook_missed, schedule_change
from workflow.running import present_identity
from workspace.commands import parser_of
from workspace.errors import UserError, mistakes_in_one_line
from workspace.exact.manifest import address_of, read_json
from workspace.holding import HeldError, held, locked
from workspace.progress import say
from workspace.runs import RUNS, RunFolder, adopt
from workspace.settings import STAGES

DAY = 86400.0
SIZES = ("B", "KB", "MB", "GB", "TB")


def all_runs() -> list[RunFolder]:
    """All runs, grouped by stage."""
    found = [RunFolder(path) for path in sorted(RUNS.glob("*/[!.]*")) if path.parent.name in STAGES]
    return [run for run in found if run.root.is_dir()]


def name_of(run: RunFolder) -> str:
    """`stage/fingerprint`."""
    return f"{run.root.parent.name}/{run.root.name}"


def find_run(name: str) -> RunFolder:
    """A run by `stage/fingerprint` or the start of a fingerprint.

    Raises:
        UserError: no run or several match.
    """
    found = [run for run in all_runs() if name_of(run).startswith(name) or run.root.name.startswith(name)]
    if len(found) != 1:
        what = "no run" if not found else f"{len(found)} runs"
        raise UserError(f"{what} called {name}: `python -m workspace.runs list` shows them all")
    return found[0]


def is_held(run: RunFolder) -> bool:
    """Whether a living process works in it."""
    if not (run.root / "lock").is_file():
        return False
    try:
        with locked(run):
            return False
    except HeldError:
        return True


def state_of(run: RunFolder) -> str:
    """done, running, failed (nothing in it is finished) or unfinished."""
    if is_held(run):
        return "running"
    if run.done:
        return "done"
    return "failed" if run.empty else "unfinished"


def size_of(run: RunFolder) -> str:
    """The run's size on disk, as text; a finished run shares its result's bytes with the artifact."""
    size = 0.0
    for folder, _, names in os.walk(run.root):
        for name in names:
            with suppress(FileNotFoundError):
                size += os.lstat(os.path.join(folder, name)).st_size
    unit = 0
    while size >= 1000 and unit < len(SIZES) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.0f} {SIZES[unit]}"


def list_runs() -> list[str]:
    """One line per run: stage/fingerprint, state, progress, seconds of work, size, age."""
    lines = []
    for run in all_runs():
        progress, seconds = "", 0.0
        if run.progress_file.is_file():
            seen = read_json(run.progress_file)
            progress = f"{seen['done']:,}/{seen['total']:,} {seen['unit']}"
        if (run.root / "run.json").is_file():
            seconds = run.state()["seconds"]
        days = (time.time() - run.touched) / DAY
        age = "today" if days < 1 else f"{days:.0f} days old"
        lines.append(
            f"{name_of(run)}  {state_of(run)}  {progress}  {seconds:,.0f} s  {size_of(run)}  {age}"
        )  # fmt: skip
    return lines


def chosen(asked: argparse.Namespace) -> list[RunFolder]:
    """The runs that `drop` names, or those of the kind it names; runs in which a process works are left out.

    Raises:
        UserError: nothing is named, or a name matches none or several.
    """
    kinds = {
        "failed": ("failed",),
        "unfinished": ("failed", "unfinished"),
        "all": ("failed", "unfinished", "done"),
    }
    wanted = {state for kind, states in kinds.items() if getattr(asked, kind) for state in states}
    if bool(wanted) == bool(asked.runs):
        raise UserError(
            "name runs, or one of --failed, --unfinished, --all: `python -m workspace.runs list` shows them"
        )
    runs = [find_run(name) for name in asked.runs] or [run for run in all_runs() if state_of(run) in wanted]
    return [run for run in runs if time.time() - run.touched >= (asked.older or 0) * DAY]


def drop(run: RunFolder) -> bool:
    """Forget a run; returns False, and prints a line, if a process works in it."""
    try:
        with locked(run):
            run.forget()
    except HeldError:
        say(held(run))
        return False
    say(f"dropped {run.root}")
    return True


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = parser_of("workspace.runs", "Runs of the stages, finished or not.")
    commands = made.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="every run: stage/fingerprint, state, progress, seconds, size, age")
    dropping = commands.add_parser("drop", help="forget runs and their checkpoints; artifacts stay")
    dropping.add_argument(
        "runs", nargs="*", metavar="RUN", help="stage/fingerprint, or the start of a fingerprint"
    )
    kinds = dropping.add_mutually_exclusive_group()
    kinds.add_argument("--failed", action="store_true", help="runs in which nothing is finished yet")
    kinds.add_argument(
        "--unfinished", action="store_true", help="also runs with checkpoints or finished shards"
    )
    kinds.add_argument("--all", action="store_true", help="all runs except those in which a process works")
    dropping.add_argument(
        "--older", type=float, metavar="DAYS", help="only runs unchanged for this many days"
    )
    commands.add_parser("adopt", help="continue a run with the current params and code").add_argument(
        "run", help="stage/fingerprint, or the start of a fingerprint"
    )
    return made


def main() -> None:
    """List, drop, adopt."""
    arguments = parser().parse_args()
    with mistakes_in_one_line():
        _command(arguments)


def _command(arguments: argparse.Namespace) -> None:
    if arguments.command == "list":
        sys.stdout.write("".join(f"{line}\n" for line in list_runs()))
    elif arguments.command == "drop":
        runs = chosen(arguments)
        if not runs:
            say("no run to drop")
        dropped = [drop(run) for run in runs]  # try all of them, even if one is held
        if not all(dropped):
            sys.exit(1)
    else:
        folder = find_run(arguments.run)
        with locked(folder):
            before, present = (
                folder.state()["identity"]["settings"],
                present_identity(folder.root.parent.name),
            )
            done = read_json(folder.progress_file)["done"] if folder.progress_file.is_file() else 0
            if missed := codebook_missed(done, before, present.settings):
                raise UserError(missed)
            adopted = adopt(folder, present)
        change = schedule_change(done, before, present.settings)
        if change:
            say(change)
        say(f"{folder.root} continues as {adopted.root}: `dvc repro {address_of(folder.root.parent.name)}`")
