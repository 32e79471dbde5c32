"""Whether the DVC command that started this process was asked to run stages again: `dvc repro -f`, `dvc exp run -f`.

DVC says so nowhere in the environment of what it starts, so its own command line is read: that of the nearest
ancestor of this process that is a `dvc`.
"""

import os
from collections.abc import Sequence
from pathlib import Path

UNDER_DVC = "DVC_STAGE"
"""DVC sets it for each command of a stage."""
COMMANDS = (["repro"], ["exp", "run"], ["experiments", "run"])
FORCED = ("--force", "--force-downstream")
WITH_VALUE = "jnSCrt"
"""Short options of both commands that take a value: what follows one in the same word is that."""


def is_forced() -> bool:
    """Whether this process was started by a DVC command with `-f`, `--force` or `--force-downstream`."""
    if UNDER_DVC not in os.environ:
        return False
    import psutil  # DVC brings it

    for process in psutil.Process().parents():
        try:
            command = process.cmdline()
        except psutil.Error:  # ended meanwhile, or another user's
            continue
        if is_dvc(command):
            return asks_to_run(command)
    return False


def is_dvc(command: Sequence[str]) -> bool:
    """Whether a command line is that of `dvc`, by itself or as a script or module of Python."""
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
