"""Params files that hold only their differences from a base: `base: FILE`, then the settings with other values.

The files in presets/ have this form: shapes.yaml is complete and equal to the committed params.yaml; the others hold differences
from it or from each other. This module merges a file with its bases; workflow/preset.py writes the result as a params file.
"""

import copy
import difflib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from workspace.errors import UserError
from workspace.renamed import refuse_renamed

BASE = "base"
"""The key that names the file, in the same folder, with all other values."""


def whole(path: Path, tree: dict[str, Any], read: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """Every setting of a params file: its own values, merged over its base's if it names one.

    Args:
        path: the file of the tree.
        tree: its values, plain or ruamel's.
        read: reads the values of one file.

    Raises:
        UserError: no such base, bases in a circle, a setting that the base does not have, or settings under old names.
    """
    chain = [(path, tree)]
    refuse_renamed(path, tree)
    while BASE in chain[-1][1]:
        file = _base_of(*chain[-1])
        if file in (path for path, _ in chain):
            names = " → ".join(path.name for path, _ in chain)
            raise UserError(f"{path}: its bases form a cycle: {names} → {file.name}")
        chain.append((file, read(file)))
        refuse_renamed(*chain[-1])
    root = chain[-1][1]
    made = copy.deepcopy(root)
    for file, changes in reversed(chain[:-1]):
        own = {name: value for name, value in changes.items() if name != BASE}
        _lay(own, made, root, f"{file}: ")
    return made


def _base_of(path: Path, tree: Mapping[str, Any]) -> Path:
    name = tree[BASE]
    if not isinstance(name, str) or Path(name).name != name:
        raise UserError(f"{path}: {BASE} is {name}: expected the name of a params file in the same folder")
    file = path.with_name(name)
    if not file.is_file():
        raise UserError(
            f"{path} holds only its differences from {name}, which is not in the same folder: "
            "`make preset PRESET=NAME` writes a preset out in full as params.yaml"
        )
    return file


def _lay(changes: Mapping[str, Any], over: dict[str, Any], root: Mapping[str, Any], place: str) -> None:
    """Merge values into a tree. A mapping that is empty in the root has user-defined keys, and is taken unchecked."""
    for name, value in changes.items():
        if name not in root:
            what = "section" if place.endswith(": ") else "setting"
            raise UserError(
                f"{place}{name} is not a {what}.{nearest(str(name), dict.fromkeys(map(str, root)))}"
            )
        inner = root[name]
        if not (isinstance(inner, Mapping) and inner):
            over[name] = value
        elif isinstance(value, Mapping):
            _lay(value, over[name], inner, f"{place}{name}.")
        else:
            said = "empty" if value is None else value
            raise UserError(
                f"{place}{name} is {said}: expected settings of its own, such as {next(iter(inner))}"
            )


def nearest(name: str, valid: Mapping[str, Any]) -> str:
    """' Did you mean …?' with the closest valid key, or a list of all."""
    close = difflib.get_close_matches(name, list(valid), n=1, cutoff=0.5)
    if not close:
        return f" Expected one of: {', '.join(valid)}"
    described = valid[close[0]]
    about = f" ({described})" if isinstance(described, str) and described else ""
    return f" Did you mean {close[0]}{about}?"
