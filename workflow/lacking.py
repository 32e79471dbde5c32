"""What a params file reads that is not there: found before any work, with the command that brings it."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from workflow.command_line import PIPELINES
from workspace.bases import BASE
from workspace.meant import did_you_mean
from workspace.quick_yaml import quick_yaml
from workspace.stores.addresses import is_url

MADE_HERE = "artifacts/"
WEIGHTS = (".safetensors", ".pt")
LISTING = ".listing"
"""How a listing by `shards.list` is called."""
PATTERN = re.compile(r"((?:[^/*?\[{]*/)*)([^/]*[*?\[{].*)")
"""A glob or braces of tars: the folder, and the pattern below it."""
SETTING = re.compile(r"\$\{(\w+(?:\.\w+)+)\}")
"""A setting in a dependency of dvc.yaml; the only name there without a section is `empty`."""
ELSEWHERE = re.compile(r"^\w+:")
"""A URL, which only the stage can check."""


def folder_and_pattern(source: str) -> tuple[str, str] | None:
    """`tars/{000..099}.tar` → `tars` and `{000..099}.tar`, because DVC watches folders only; None without a pattern."""
    found = None if is_url(source) else PATTERN.fullmatch(source)
    return None if found is None or Path(source).exists() else (found[1].rstrip("/") or ".", found[2])


def missing(text: str, file: str, preset: str) -> str:
    """One line with the missing data of a params file, and the command to type; or "".

    Args:
        text: the params file.
        file: the file's name.
        preset: `PRESET=NAME `, or "" for params.yaml itself.
    """
    tree = yaml.safe_load(text)
    if isinstance(tree, dict) and BASE in tree:
        return f"{file} holds only its differences from {tree[BASE]}: `make preset PRESET=NAME` writes a preset out in full"
    section = tree.get("shard") if isinstance(tree, dict) else None
    source = str(section["source"]) if isinstance(section, dict) and "source" in section else MADE_HERE
    if is_url(source):
        from shards.layouts.remote import listing_for

        listing = listing_for(source)
        return (
            f"{file}: shard.source is {source}, but DVC watches files: type `python -m shards.list {shlex.quote(source)} --out "
            f"{listing}`, and write `source: {listing}` there"
        )
    if parts := folder_and_pattern(source):
        return (
            f"{file}: shard.source is {source}, but DVC watches folders, not patterns: write `source: {parts[0]}` and "
            f"`tars: '{parts[1]}'` there"
        )
    named = sorted(path for path in set(weights_in(tree)) if not Path(path).is_file())
    lost = {setting: path for setting, path in _read_by_stages(tree) if path not in named}
    lacks_images = not source.startswith(MADE_HERE) or lost.get("shard.source") == source
    lacks_images = lacks_images and not ELSEWHERE.search(source) and not Path(source).exists()
    lacking = [f"images in {source}{did_you_mean(source)}"] if lacks_images else []
    lacking += [f"weights in {path}{did_you_mean(path)}" for path in named]
    lost.pop("shard.source", None)
    lacking += [f"{path} ({setting}){did_you_mean(path)}" for setting, path in lost.items()]
    if not lacking:
        return ""
    options = (" SOURCE=/path/to/images" if lacks_images else "") + (
        " WEIGHTS=/path/to/weights" if named else ""
    )
    brought = [_brought(source)] if lacks_images else []
    brought += [_brought(path) for path in named if Path(f"{path}.dvc").is_file()]
    what = f"{file} reads {' and '.join(lacking)}, which {'does' if len(lacking) == 1 else 'do'} not exist"
    if any(brought):
        return f"{what}: type {' and '.join(filter(None, brought))}"
    if not preset:
        return f"{what}: set the paths in params.yaml (docs/data.md)"
    return (
        f"{what}: type `make repro {preset.strip()}{options}` with the folders that have them (docs/data.md)"
    )


def _read_by_stages(tree: Any) -> Iterator[tuple[str, str]]:
    """Setting → path of what stages of dvc.yaml depend on by a setting's value, where it is not there and no stage makes it.

    DVC removes a stage's outputs before it finds that a dependency is missing.
    """
    stages = [stage for path in PIPELINES for stage in _stages(path)]
    outs = [next(iter(out)) if isinstance(out, dict) else out for stage in stages for out in stage["outs"]]
    for setting in dict.fromkeys(SETTING.findall(" ".join(dep for stage in stages for dep in stage["deps"]))):
        value = tree
        for name in setting.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        if isinstance(value, str) and value and not ELSEWHERE.search(value):
            made = any(Path(value).is_relative_to(out) for out in outs)
            if not made and not Path(value).exists():
                yield setting, value


def _stages(pipeline: Path) -> list[dict[str, Any]]:
    """The stages of a dvc.yaml; none if there is no such file."""
    return list(quick_yaml(pipeline.read_bytes())["stages"].values()) if pipeline.is_file() else []


def _brought(path: str) -> str:
    """The command that brings a file or folder that is not there; "" where only its user knows."""
    if Path(f"{path}.dvc").is_file():
        return f"`dvc pull {shlex.quote(path)}`"
    return (
        f"`python -m shards.list FOLDER-OR-URL --out {shlex.quote(path)}`" if path.endswith(LISTING) else ""
    )


def weights_in(value: Any) -> Iterator[str]:
    """The paths of all weights files in a params file."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from weights_in(inner)
    elif isinstance(value, str) and value.endswith(WEIGHTS):
        yield value
