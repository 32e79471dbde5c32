"""Settings that a run is asked for, into params.yaml; the stages validate them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipelines.dag import RefusedError


def split(change: str) -> tuple[str, str]:
    """KEY and VALUE of KEY=VALUE.

    Raises:
        RefusedError: it is none.
    """
    name, equals, value = change.partition("=")
    if not equals or not name:
        raise RefusedError(f"-S {change}: expected KEY=VALUE with a key of params.yaml")
    return name.strip(), value


def set_params(root: Path, changes: Sequence[str]) -> None:
    """Write `section.key=value` each into the workspace's params.yaml, all or none, comments kept.

    Raises:
        RefusedError: a key that is not in the file.
    """
    if not changes:
        return
    from dvc.utils.serialize import modify_yaml

    with modify_yaml(str(root / "params.yaml")) as tree:
        places = [_place(tree, change) for change in changes]
        for (node, key), change in zip(places, changes, strict=True):
            node[key] = parse(split(change)[1])


def check(root: Path, changes: Sequence[str]) -> None:
    """Whether params.yaml has these keys.

    Raises:
        RefusedError: it has not.
    """
    from ruamel.yaml import YAML

    tree = YAML(typ="safe").load(root / "params.yaml")
    for change in changes:
        _place(tree, change)


def _place(tree: Any, change: str) -> tuple[Any, str]:
    """The mapping that holds a change's key, and the key's last part."""
    *parents, last = split(change)[0].split(".")
    node = tree
    for key in parents:
        node = node.get(key) if isinstance(node, dict) else None
    if not isinstance(node, dict) or last not in node:
        raise RefusedError(f"-S {change}: expected KEY=VALUE with a key of params.yaml")
    return node, last


def parse(text: str) -> Any:
    """A value as YAML reads it."""
    from ruamel.yaml import YAML

    return YAML(typ="safe").load(text)
