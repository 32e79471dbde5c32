"""Take a preset: copy presets/NAME.yaml over params.yaml, unless that has uncommitted edits.

python -m pipelines.preset NAME
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

PRESETS, PARAMS = Path("presets"), Path("params.yaml")


def take(name: str) -> str:
    """Copy the preset over params.yaml.

    Returns:
        The error in one line, or "" if all went well.
    """
    source = PRESETS / f"{name}.yaml"
    names = sorted(path.stem for path in PRESETS.glob("*.yaml"))
    if name not in names:
        return f"there is no preset {name}; expected one of {', '.join(names)}"
    wanted = source.read_bytes()
    if PARAMS.is_file() and PARAMS.read_bytes() == wanted:
        return ""
    if (
        PARAMS.is_file()
        and _edited()
        and PARAMS.read_bytes() not in [path.read_bytes() for path in PRESETS.glob("*.yaml")]
    ):
        return f"params.yaml has uncommitted edits: commit them, or `git checkout params.yaml`, then take the preset {name}"
    shutil.copyfile(source, PARAMS)
    return ""


def _edited() -> bool:
    """Whether git sees edits in params.yaml."""
    return subprocess.run(["git", "diff", "--quiet", "HEAD", "--", str(PARAMS)], check=False).returncode != 0


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.preset", description=__doc__)
    parser.add_argument("name", help="stem of a file in presets/")
    error = take(parser.parse_args().name)
    if error:
        sys.exit(error)


if __name__ == "__main__":
    main()
