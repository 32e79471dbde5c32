"""Where a run came from: revision, date, settings that differ from the nearest preset, data, and how to make it again.

Each stage writes it into metrics/STAGE/run.json, beside its time and versions: that file alone says when and where something was
made, so artifacts stay equal byte for byte (docs/decisions/0058-where-a-run-came-from.md).
"""

import shlex
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from workspace.bases import BASE, whole
from workspace.errors import UserError
from workspace.exact.manifest import NAME, sha256_file
from workspace.quick_yaml import quick_yaml
from workspace.settings import read_tree

PRESETS = Path("presets")
CODE = (":!dvc.lock", ":!*/dvc.lock", ":!metrics", ":!params.yaml", ":!docs", ":!*.md")
"""What `git status` is asked for: files that can change a result, less those that a run itself writes."""
NOT_COMPARED = ("compute", "report")
"""Sections in which a difference changes no number."""
UNKNOWN = object()


def origin_of(params: Path, shards: Path, changes: tuple[str, ...] = (), command: str = "") -> dict[str, Any]:
    """Facts of a run at this moment, as JSON values.

    Args:
        params: the params file.
        shards: the image shards' folder.
        changes: `section.key=value` each, of the command line.
        command: the stage's command line, where it was typed by hand.

    Returns:
        revision (null outside of Git), changed (files of code that differ from it), date (UTC), preset, settings (those that
        differ from it, name → value), data (source and the shards' fingerprint), again (a line for the
        shell, empty if the settings cannot be read).
    """
    revision, changed = _revision()
    preset, settings, source, line = "", dict[str, Any](), None, ""
    with suppress(UserError):  # a stage by hand reads its own section alone: the others may be anything
        tree = read_tree(params, changes)
        preset, settings = nearest_preset(tree)
        source = tree.get("shard", {}).get("source")
        line = again(revision, *nearest_preset(read_tree(params)), command)
    manifest = shards / NAME
    data = {"source": source, "shards": sha256_file(manifest) if manifest.is_file() else None}
    return {
        "revision": revision,
        "changed": changed,
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "preset": preset,
        "settings": settings,
        "data": data,
        "again": line,
    }


def _git(*words: str) -> str | None:
    """Git's output, or None without Git or outside a repository with a commit."""
    try:
        done = subprocess.run(["git", *words], capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _revision() -> tuple[str | None, list[str]]:
    revision = _git("rev-parse", "HEAD")
    if revision is None:
        return None, []
    status = _git("status", "--porcelain", "--untracked-files=no", "--", ".", *CODE) or ""
    return revision, sorted(line[2:].strip() for line in status.splitlines())


def nearest_preset(tree: Mapping[str, Any], folder: Path = PRESETS) -> tuple[str, dict[str, Any]]:
    """The preset that fewest settings differ from, and those settings with their values; "" without any preset."""
    own = dict(_flat(tree))
    found: tuple[str, dict[str, Any]] | None = None
    for path in sorted(folder.glob("*.yaml")):
        with suppress(UserError, yaml.YAMLError, OSError):
            base = {name: _number(value) for name, value in _flat(whole(path, _read(path), _read))}
            differ = {name: value for name, value in own.items() if _number(value) != base.get(name, UNKNOWN)}
            if found is None or len(differ) < len(found[1]):
                found = path.stem, differ
    return found or ("", {})


@lru_cache(maxsize=32)  # presets share a base
def _parsed(text: bytes) -> Any:
    return quick_yaml(text)


def _read(path: Path) -> Any:
    tree = _parsed(path.read_bytes())
    return {name: value for name, value in tree.items() if name == BASE or isinstance(value, dict)}


def _flat(tree: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{before}{name}.")
        elif before.partition(".")[0] not in NOT_COMPARED:
            yield f"{before}{name}", value


def _number(value: Any) -> Any:
    """1e-3 is text to some YAML readers and a number to others."""
    with suppress(TypeError, ValueError):
        return float(value) if isinstance(value, str) else value
    return value


def again(revision: str | None, preset: str, settings: Mapping[str, Any], command: str = "") -> str:
    """A line for the shell that makes a run again: its code, its preset, its settings, and the command typed after these."""
    words = [f"git checkout {revision[:12]}"] if revision else []
    source = settings.get("shard.source")
    if preset:
        words.append(
            f"make preset PRESET={preset}" + (f" SOURCE={shlex.quote(str(source))}" if source else "")
        )
    given = [
        f"-S {shlex.quote(f'{name}={_written(value)}')}"
        for name, value in settings.items()
        if name != "shard.source" or not preset
    ]
    words.append(" ".join(["dvc exp run", *given]) if given else "dvc repro")
    return " && ".join([*words, *([command] if command else [])])


def _written(value: Any) -> str:
    """A value as `-S` takes it."""
    return yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=1 << 16).removesuffix(
        "\n...\n"
    ).strip()  # fmt: skip
