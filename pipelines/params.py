"""Changes settings in params.yaml without changing any other byte, and compares it with the committed file."""

import subprocess
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipelines.errors import RefusedError

NAME = "params.yaml"


def split(change: str) -> tuple[str, str]:
    """Split KEY=VALUE.

    Raises:
        RefusedError: the text does not have this form.
    """
    name, equals, value = change.partition("=")
    if not equals or not name:
        raise _unknown(change)
    return name.strip(), value


def parse(text: str) -> Any:
    """Parse a value as DVC does: YAML 1.2, in which 1e-3 is a number."""
    from ruamel.yaml import YAML, YAMLError

    try:
        return YAML(typ="safe").load(text)
    except YAMLError as error:
        raise RefusedError(f"{text} is not a value: {' '.join(str(error).split())}") from error


def read(root: Path) -> str:
    """The text of params.yaml, with unchanged line ends."""
    return (root / NAME).read_bytes().decode("utf-8")


def write(root: Path, text: str) -> None:
    """Write params.yaml atomically."""
    path = (root / NAME).resolve()
    beside = path.with_name(f".{NAME}.new")
    beside.write_bytes(text.encode("utf-8"))
    beside.chmod(path.stat().st_mode)
    beside.replace(path)


def set_params(root: Path, changes: Sequence[str]) -> None:
    """Write `section.key=value` changes into the workspace's params.yaml, all or none.

    Raises:
        RefusedError: a key that is not in the file.
    """
    if changes:
        write(root, with_changes(root, changes))


def with_changes(root: Path, changes: Sequence[str]) -> str:
    """The text of params.yaml with these settings.

    Raises:
        RefusedError: a key that is not in the file.
    """
    text = read(root)
    for change in changes:
        text, _, _ = with_value(text, change)
    return text


def with_value(text: str, change: str) -> tuple[str, str, str]:
    """A file's text with one key's value replaced and all else unchanged; the old and the new text after the key's colon.

    Raises:
        RefusedError: the file has no such key, or its value is shared by an anchor, so that it cannot be changed alone.
    """
    key, words = split(change)
    value = parse(words)
    try:
        place = _find(text, key)
    except KeyError as error:
        raise _unknown(change) from error
    now = place.written(text, value)
    changed = text[: place.start] + now + text[place.end :]
    expected = _unshared(yaml.safe_load(text))
    *parents, last = key.split(".")
    node = expected
    for name in parents:
        node = node[name]
    node[last] = value
    try:
        whole = yaml.safe_load(changed) == expected
    except yaml.YAMLError:
        whole = False
    if not whole:
        raise RefusedError(f"-S {change}: {NAME} shares this value by an anchor; write it there by hand")
    return changed, text[place.start : place.end], now


def span(text: str, key: str) -> tuple[int, int]:
    """The range of a key's value: from after its colon to its end, without trailing comments.

    Raises:
        RefusedError: not YAML.
        KeyError: no such key.
    """
    place = _find(text, key)
    return place.start, place.end


@dataclass(frozen=True)
class Place:
    """A value's location in a file.

    Attributes:
        start: position after its key's colon.
        end: end of the value.
        column: its key's column; None in {braces}.
        below: whether it begins on the line after its key.
    """

    start: int
    end: int
    column: int | None
    below: bool

    def written(self, text: str, value: Any) -> str:
        """A value in DVC's form: nothing for null, and lists below their key if the old value was there."""
        line = "" if value is None and self.column is not None else f" {_in_a_line(value)}"
        if self.column is None or not self.below:
            return line
        comment = text[self.start : self.end].partition("\n")[0].rstrip()
        if isinstance(value, dict | list) and value:
            block = yaml.safe_dump(
                value, default_flow_style=False, width=float("inf"), allow_unicode=True, sort_keys=False
            )
            inset = self.column + 2 * isinstance(value, dict)
            return comment + textwrap.indent(f"\n{block.rstrip()}", " " * inset)
        return f"{comment}\n{' ' * (self.column + 1)}{line or ' null'}" if comment else line


def _find(text: str, key: str) -> Place:
    """Find a key's value.

    Raises:
        RefusedError: not YAML.
        KeyError: no such key.
    """
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise RefusedError(f"{NAME} is not YAML: {' '.join(str(error).split())[:300]}") from error
    place = None
    for part in key.split("."):
        if not isinstance(node, yaml.MappingNode):
            raise KeyError(key)
        found = [(name, value) for name, value in node.value if name.value == part]
        if not found:
            raise KeyError(key)
        in_braces = (place is not None and place.column is None) or node.flow_style
        name, node = found[-1]
        start = text.find(":", name.end_mark.index) + 1
        end = max(start, _end(text, node))
        below = isinstance(node, yaml.CollectionNode) and not node.flow_style
        place = Place(start, end, None if in_braces else name.start_mark.column, below)
    assert place is not None
    return place


def _in_a_line(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")


def _unshared(value: Any) -> Any:
    """A copy of a tree without shared parts, which YAML aliases can create."""
    if isinstance(value, dict):
        return {key: _unshared(inner) for key, inner in value.items()}
    return [_unshared(inner) for inner in value] if isinstance(value, list) else value


def _end(text: str, node: yaml.Node) -> int:
    """The end of a value, without the text up to the next key, which YAML counts as part of a block."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style:
        last = node.value[-1]
        return _end(text, last[1] if isinstance(last, tuple) else last)
    start: int = node.start_mark.index
    return start + len(text[start : node.end_mark.index].rstrip())


def _unknown(change: str) -> RefusedError:
    return RefusedError(f"-S {change}: expected KEY=VALUE with a key of {NAME}")


def committed(root: Path) -> str | None:
    """The text of params.yaml in the last commit, or None if there is none."""
    command = ["git", "show", f"HEAD:./{NAME}"]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None


def differences(root: Path) -> list[tuple[str, str, str]] | None:
    """Settings that differ from the committed file: key, committed value, current value; None without a commit."""
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
    """Every setting's dotted key and value; a list counts as one value."""
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _leaves(inner, f"{place}.{name}" if place else str(name))
    else:
        yield place, _in_a_line(value)
