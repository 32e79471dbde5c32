"""Renamed settings: a params file with old names is refused with the new name of each.

python -m workspace.renamed FILE …     write the new names into params files or presets; comments and all else are kept
"""

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from workspace.commands import parser_of
from workspace.errors import UserError, mistakes_in_one_line
from workspace.exact.manifest import atomic_path

RENAMED = {
    "mqvae.final_rate": "min_lr_ratio",
    "mqvae.clip": "max_grad_norm",
    "mqvae.quantize_from": "quantize_start",
    "mqvae.loss.disc_start": "discriminator_start",
    "mqvae.loss.disc_ramp": "discriminator_ramp",
    "mqvae.loss.disc_channels": "discriminator_channels",
    "mqvae.loss.disc_layers": "discriminator_layers",
    "mqvae.loss.disc_learning_rate": "discriminator_learning_rate",
    "mqvae.exploration.until": "anneal_start",
    "mqvae.exploration.gone_by": "anneal_end",
    "mqvae.exploration.freeze_from": "freeze_start",
    "mqvae.model.stem": "patch_size",
    "mqvae.model.multipliers": "channel_multipliers",
    "tokenize.copies": "augmentations",
    "stackformer.final_rate": "min_lr_ratio",
    "stackformer.clip": "max_grad_norm",
    "stackformer.condition_drop": "cfg_dropout",
    "sample.guidance": "guidance_scale",
}
"""Old dotted name → new name of its last part (docs/decisions/0041 gives the reasons)."""
SHARES = "mqvae.exploration."
"""Settings whose value used to be a share of `mqvae.steps` and is now a number of steps."""
NEVER = 1.0
"""The share with which `freeze_from` never froze the scores; now null."""


def refuse_renamed(path: Path, tree: Mapping[str, Any]) -> None:
    """Check that a params file has no old name.

    Raises:
        UserError: it has some; all are listed with their new names, one per line.
    """
    found = [name for name in RENAMED if _holds(tree, name)]
    if found:
        lines = "".join(f"\n  {_advice(name, _at(tree, name), _steps(tree))}" for name in found)
        raise UserError(
            f"{path} has settings under old names; `python -m workspace.renamed {path}` writes the new ones:{lines}"
        )


def refuse_renamed_changes(changes: Sequence[str]) -> None:
    """Check `section.key=value` changes from the command line for old names.

    Raises:
        UserError: an old name is among them.
    """
    names = [(change, change.partition("=")[0].strip()) for change in changes]
    lines = [f"--set {change}: {_advice(name)}" for change, name in names if name in RENAMED]
    if lines:
        raise UserError("\n".join(lines))


def renamed(name: str) -> str:
    """The new dotted name of an old one."""
    return f"{name.rpartition('.')[0]}.{RENAMED[name]}"


def _advice(name: str, value: Any = None, steps: int | None = None) -> str:
    """`old → new`, with the value converted if its unit changed."""
    line = f"{name} → {renamed(name)}"
    if not name.startswith(SHARES):
        return line
    if steps is None or not isinstance(value, int | float):
        return f"{line} (optimiser steps now: the share × mqvae.steps; a freeze_from of 1 is null)"
    return f"{line}: {value:g} of {steps:,} steps is {_in_steps(name, value, steps)}"


def _in_steps(name: str, share: float, steps: int) -> str:
    if name.endswith("freeze_from") and share >= NEVER:
        return "null"
    return str(math.ceil(round(share * steps, 6)))  # 0.09 · 1200 must not become 109


def _holds(tree: Any, name: str) -> bool:
    *parents, last = name.split(".")
    for key in parents:
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    return isinstance(tree, Mapping) and last in tree


def _at(tree: Any, name: str) -> Any:
    for key in name.split("."):
        tree = tree[key]
    return tree


def _steps(tree: Mapping[str, Any]) -> int | None:
    steps = _at(tree, "mqvae.steps") if _holds(tree, "mqvae.steps") else None
    return steps if isinstance(steps, int) else None


def with_new_names(text: str, where: str) -> str:
    """A params file's text with old names replaced by new ones, and shares by steps.

    Raises:
        UserError: not YAML, or shares without `mqvae.steps` in the same file.
    """
    try:
        root, tree = yaml.compose(text, Loader=yaml.SafeLoader), yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{where} is not YAML: {' '.join(str(error).split())[:300]}") from error
    edits = []
    for name, key, value in _scalars(root, ""):
        if name not in RENAMED:
            continue
        edits.append((key.start_mark.index, key.end_mark.index, RENAMED[name]))
        if name.startswith(SHARES):
            steps = _steps(tree)
            if steps is None:
                raise UserError(
                    f"{where}: {name} is a share, but the file has no mqvae.steps to convert it to steps: write {renamed(name)}"
                )
            try:
                there = _in_steps(name, float(value.value), steps)
            except (TypeError, ValueError) as error:
                raise UserError(
                    f"{where}: {name} is {value.value!r}, expected a share of mqvae.steps, a number"
                ) from error
            edits.append((value.start_mark.index, value.end_mark.index, there))
    for start, end, new in sorted(edits, reverse=True):  # from the end, so that earlier positions stay valid
        text = text[:start] + new + text[end:]
    return text


def _scalars(node: yaml.Node | None, place: str) -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
    """Dotted name, key and value of every entry in every mapping."""
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        name = f"{place}{key.value}"
        yield name, key, value
        yield from _scalars(value, f"{name}.")


def main() -> None:
    """The command line."""
    parser = parser_of("workspace.renamed", __doc__)
    parser.add_argument("files", nargs="+", type=Path, help="params.yaml, or a preset")
    files = parser.parse_args().files
    with mistakes_in_one_line():
        for path in files:
            text = _text_of(path)
            changed = with_new_names(text, str(path))
            # a user's own file: never half written, and its line ends stay
            with atomic_path(path) as temporary:
                temporary.write_bytes(changed.encode())
            sys.stdout.write(f"{path}: {'new names written' if changed != text else 'no old names'}\n")


def _text_of(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text: {error}") from error


if __name__ == "__main__":
    main()
