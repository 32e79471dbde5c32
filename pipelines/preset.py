"""Take a preset: copy presets/NAME.yaml over params.yaml, unless that has edits of yours; and look whether its data is there.

python -m pipelines.preset NAME [--source PATH] [--weights FOLDER]
python -m pipelines.preset                       look whether what params.yaml reads is there, and take nothing
"""

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

PRESETS, PARAMS = Path("presets"), Path("params.yaml")
SOURCE = re.compile(r"^(  source: )\S.*$", re.MULTILINE)
WEIGHTS = re.compile(r"[^\s,{]+/([\w.-]+\.(?:safetensors|pt)\b)")
MADE_HERE = "artifacts/"
TARS = re.compile(r"^(  tars: ).*$", re.MULTILINE)
PATTERN = re.compile(r"((?:[^/*?\[{]*/)*)([^/]*[*?\[{].*)")
"""A glob or braces of tars: the folder, and what is below it."""
ELSEWHERE = re.compile(r"^\w+:")
"""A URL: whether it leads anywhere is for the stage to say."""


def take(name: str, source: str | None = None, weights: str | None = None) -> str:
    """Write the preset, with images and weights from elsewhere where these are named, over params.yaml.

    Returns:
        The error in one line, or "" if all went well; then nothing was changed.
    """
    names = sorted(path.stem for path in PRESETS.glob("*.yaml"))
    if name not in names:
        return f"there is no preset {name}; expected one of {', '.join(names)}"
    wanted = placed((PRESETS / f"{name}.yaml").read_text(encoding="utf-8"), source, weights)
    lacking = missing(wanted, f"presets/{name}.yaml", f"PRESET={name} ")
    if lacking:
        return lacking
    present = PARAMS.read_text(encoding="utf-8") if PARAMS.is_file() else wanted
    if present != wanted and _edited() and not _is_a_preset(present):
        return (
            f"params.yaml has uncommitted edits: keep them by `git commit -m mine params.yaml`, or drop them by "
            f"`git checkout params.yaml`; then `make repro PRESET={name}` (`make repro` runs params.yaml as it is)"
        )
    PARAMS.write_text(wanted, encoding="utf-8")
    return ""


def placed(text: str, source: str | None, weights: str | None) -> str:
    """A params file that reads images from `source` and weights from the folder `weights`."""
    if source is not None and (parts := folder_and_pattern(source)):
        source, pattern = parts
        text = TARS.sub(lambda found: found[1] + json.dumps(pattern, ensure_ascii=False), text, count=1)
    if source is not None:
        text = SOURCE.sub(lambda found: found[1] + json.dumps(source, ensure_ascii=False), text, count=1)
    if weights is not None:
        text = WEIGHTS.sub(lambda found: f"{weights.rstrip('/')}/{found[1]}", text)
    return text


def folder_and_pattern(source: str) -> tuple[str, str] | None:
    """`tars/{000..099}.tar` → `tars` and `{000..099}.tar`: DVC watches folders, and no patterns; None for what is no pattern."""
    found = PATTERN.fullmatch(source)
    return None if found is None or Path(source).exists() else (found[1].rstrip("/") or ".", found[2])


def missing(text: str, file: str, preset: str) -> str:
    """What a params file reads and is not there, and what to type, in one line; or "".

    Args:
        text: the params file.
        file: its name.
        preset: `PRESET=NAME `, or "" for params.yaml itself.
    """
    tree = yaml.safe_load(text)
    section = tree.get("shard") if isinstance(tree, dict) else None
    source = str(section["source"]) if isinstance(section, dict) and "source" in section else MADE_HERE
    if parts := folder_and_pattern(source):
        return (
            f"{file}: shard.source is {source}, and DVC watches folders, no patterns: write `source: {parts[0]}` and "
            f"`tars: '{parts[1]}'` there"
        )
    named = sorted(path for path in set(_weights(tree)) if not Path(path).is_file())
    lacks_images = (
        not source.startswith(MADE_HERE) and not ELSEWHERE.search(source) and not Path(source).exists()
    )
    lacking = ([f"images in {source}"] if lacks_images else []) + [f"weights in {path}" for path in named]
    if not lacking:
        return ""
    options = (" SOURCE=/path/to/images" if lacks_images else "") + (
        " WEIGHTS=/path/to/weights" if named else ""
    )
    what = f"{file} reads {' and '.join(lacking)}, which {'is' if len(lacking) == 1 else 'are'} not there"
    if not preset:
        return f"{what}: set the paths in params.yaml (docs/data.md)"
    return (
        f"{what}: type `make repro {preset.strip()}{options}` with the folders that have them (docs/data.md)"
    )


def _weights(value: Any) -> Iterator[str]:
    """Every path of a weights file in a params file."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from _weights(inner)
    elif isinstance(value, str) and value.endswith((".safetensors", ".pt")):
        yield value


def _is_a_preset(text: str) -> bool:
    """Whether a params file is some preset, wherever it reads its data from."""
    return _bare(text) in [_bare(path.read_text(encoding="utf-8")) for path in PRESETS.glob("*.yaml")]


def _bare(text: str) -> str:
    return WEIGHTS.sub(r"\1", TARS.sub(r"\1", SOURCE.sub(r"\1", text, count=1), count=1))


def _edited() -> bool:
    """Whether params.yaml is other than git has it, or git does not have it: then nothing could bring it back."""
    command = ["git", "status", "--porcelain", "--ignored", "--", str(PARAMS)]
    done = subprocess.run(command, capture_output=True, check=False)
    return done.returncode != 0 or bool(done.stdout)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.preset", description=__doc__)
    parser.add_argument("name", nargs="?", help="stem of a file in presets/")
    parser.add_argument("--source", help="where the images are, in place of the preset's shard.source")
    parser.add_argument("--weights", help="the folder of the weights files, in place of the preset's")
    asked = parser.parse_args()
    if asked.name is not None:
        error = take(asked.name, asked.source, asked.weights)
    elif asked.source is not None or asked.weights is not None:
        error = "SOURCE and WEIGHTS go with a preset: `make repro PRESET=flowers SOURCE=/path/to/images`; else edit params.yaml"
    else:
        error = missing(PARAMS.read_text(encoding="utf-8"), str(PARAMS), "") if PARAMS.is_file() else ""
    if error:
        sys.exit(error)


if __name__ == "__main__":
    main()
