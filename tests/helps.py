"""What `python -m MODULE --help` says of many modules, from one process that imports torch once."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ASK = """
import contextlib, io, json, runpy, sys
answers = {}
for name in sys.argv[1:]:
    sys.argv, said = [name, "--help"], io.StringIO()
    status = "no exit"
    with contextlib.redirect_stdout(said):
        try:
            runpy.run_module(name, run_name="__main__", alter_sys=True)
        except SystemExit as exit:
            status = exit.code
    answers[name] = (status, said.getvalue())
print(json.dumps(answers))
"""


def helps(modules: Sequence[str], folder: Path) -> dict[str, str]:
    """Module → its help, asked in a folder; fails where one does not end with status 0 and a usage line."""
    command = [sys.executable, "-W", "ignore", "-c", ASK, *modules]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout.splitlines()[-1])
    for name, (status, said) in answers.items():
        assert status in (0, None) and said.startswith("usage: "), f"{name}: {status}: {said}"
    return {name: said for name, (_, said) in answers.items()}
