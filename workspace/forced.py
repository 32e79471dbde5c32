"""Detects whether this process was started by a DVC command that forces stages to run: `dvc repro -f`, `dvc exp run -f`.

DVC does not pass this in the environment, so the command line of the nearest ancestor process that is `dvc` is read.
"""

import os
from collections.abc import Sequence
from pathlib import Path

UNDER_DVC = "DVC_STAGE"
"""Environment variable that DVC sets for a stage's commands."""
COMMANDS = (["repro"], ["exp", "run"], ["experiments", "run"])
FORCED = ("--force", "--force-downstream")
WITH_VALUE = "jnSCrt"
"""Short options of both commands that take a value; the rest of the same word is that value."""


def is_forced() -> bool:
    """Whether this process was started by a DVC command with `-f`, `--force` or `--force-downstream`."""
    if UNDER_DVC not in os.environ:
        return False
    import psutil  # a dependency of DVC

    for process in psutil.Process().parents():
        try:
            command = process.cmdline()
        except psutil.Error:  # the process has ended, or belongs to another user
            continue
        if is_dvc(command):
            return asks_to_run(command)
    return False


def is_dvc(command: Sequence[str]) -> bool:
    """Whether a command line runs `dvc`, directly or as a Python script or module."""
    names = [Path(word).name for word in command[:3]]
    return any(name in ("dvc", "dvc.exe", "dvc-script.py") for name in names) and "-c" not in command[1:2]


def asks_to_run(command: Sequence[str]) -> bool:
    """Whether a `dvc` command line forces stages to run."""
    words = list(command)
    for subcommand in COMMANDS:
        for place in range(len(words)):
            if words[place : place + len(subcommand)] == subcommand:
                return any(map(_forces, words[place + len(subcommand) :]))
    return False


def _forces(word: str) -> bool:
    if word.startswith("--"):
        return word in FORCED
    if not word.startswith("-"):
        return False
    flags = word[1:]
    first_value = min((flags.find(sign) for sign in WITH_VALUE if sign in flags), default=len(flags))
    return "f" in flags[:first_value]
