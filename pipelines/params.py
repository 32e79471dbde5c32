"""Settings in params.yaml: written with everything else as it was, to the byte; and against the committed file."""

import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from pipelines.errors import RefusedError

NAME = "params.yaml"


def split(change: str) -> tuple[str, str]:
    """KEY and VALUE of KEY=VALUE.

    Raises:
        RefusedError: it is none.
    """
    name, equals, value = change.partition("=")
    if not equals or not name:
        raise _unknown(change)
    return name.strip(), value


def parse(text: str) -> Any:
    """A value as DVC reads it: YAML 1.2, in which 1e-3 is a number."""
    from ruamel.yaml import YAML, YAMLError

    try:
        return YAML(typ="safe").load(text)
    except YAMLError as error:
        raise RefusedError(f"{text} is not a value: {' '.join(str(error).split())}") from error


def read(root: Path) -> str:
    """The text of params.yaml, its line ends as they are."""
    return (root / NAME).read_bytes().decode("utf-8")


def write(root: Path, text: str) -> None:
    """Write params.yaml: it is there whole, or as it was before."""
    path = (root / NAME).resolve()
    beside = path.with_name(f".{NAME}.new")
    beside.write_bytes(text.encode("utf-8"))
    beside.chmod(path.stat().st_mode)
    beside.replace(path)


def set_params(root: Path, changes: Sequence[str]) -> None:
    """Write `section.key=value` each into the workspace's params.yaml, all or none.

    Raises:
        RefusedError: a key that is not in the file.
    """
    text = read(root) if changes else ""
    for change in changes:
        text, _, _ = with_value(text, change)
    if changes:
        write(root, text)


def check(root: Path, changes: Sequence[str]) -> None:
    """Whether params.yaml takes these settings.

    Raises:
        RefusedError: it has no such key.
    """
    text = read(root) if changes else ""
    for change in changes:
        text, _, _ = with_value(text, change)


def with_value(text: str, change: str) -> tuple[str, str, str]:
    """A file's text with another value of one key: the text, and what stood and stands after the key's colon.

    Raises:
        RefusedError: the file has no such key, or its value is shared by an anchor, so that no edit changes it alone.
    """
    key, value = split(change)
    try:
        start, end = span(text, key)
    except KeyError as error:
        raise _unknown(change) from error
    now = " " + yaml.safe_dump(parse(value), default_flow_style=True, width=float("inf"), allow_unicode=True)
    now = now.removesuffix("\n").removesuffix("\n...")
    changed = text[:start] + now + text[end:]
    expected = _unshared(yaml.safe_load(text))
    *parents, last = key.split(".")
    node = expected
    for name in parents:
        node = node[name]
    node[last] = parse(value)
    try:
        whole = yaml.safe_load(changed) == expected
    except yaml.YAMLError:
        whole = False
    if not whole:
        raise RefusedError(f"-S {change}: {NAME} shares this value by an anchor; write it there by hand")
    return changed, text[start:end], now


def span(text: str, key: str) -> tuple[int, int]:
    """Where the value of a key stands: from behind its colon to its end, comments after it left out.

    Raises:
        RefusedError: not YAML.
        KeyError: no such key.
    """
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise RefusedError(f"{NAME} is not YAML: {' '.join(str(error).split())[:300]}") from error
    start = end = 0
    for part in key.split("."):
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        found = [(name, value) for name, value in pairs if name.value == part]
        if not found:
            raise KeyError(key)
        name, node = found[-1]
        colon = text.find(":", name.end_mark.index)
        start, end = colon + 1, max(colon + 1, _end(text, node))
    return start, end


def _unshared(value: Any) -> Any:
    """A tree in which no part stands twice, as it can where YAML has aliases."""
    if isinstance(value, dict):
        return {key: _unshared(inner) for key, inner in value.items()}
    return [_unshared(inner) for inner in value] if isinstance(value, list) else value


def _end(text: str, node: yaml.Node) -> int:
    """Where a value ends: not what follows it up to the next key, which YAML counts to a block."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style:
        last = node.value[-1]
        return _end(text, last[1] if isinstance(last, tuple) else last)
    start: int = node.start_mark.index
    return start + len(text[start : node.end_mark.index].rstrip())


def _unknown(change: str) -> RefusedError:
    return RefusedError(f"-S {change}: expected KEY=VALUE with a key of {NAME}")


def committed(root: Path) -> str | None:
    """The text of params.yaml in the last commit, or None where there is none."""
    command = ["git", "show", f"HEAD:./{NAME}"]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None


def differences(root: Path) -> list[tuple[str, str, str]] | None:
    """Every setting that differs from the committed file: its key, the committed value, the present one; None: no commit."""
    before = committed(root)
    if before is None:
        return None
    old, new = dict(_leaves(yaml.safe_load(before))), dict(_leaves(yaml.safe_load(read(root))))
    return [
        (key, old.get(key, "–"), new.get(key, "–"))
        for key in dict.fromkeys([*old, *new])
        if old.get(key) != new.get(key)
    ]


def _leaves(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Dotted key and value of every setting; a list is one value."""
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _leaves(inner, f"{place}.{name}" if place else str(name))
    else:
        text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), allow_unicode=True)
        yield place, text.removesuffix("\n").removesuffix("\n...")
