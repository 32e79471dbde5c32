"""The start of a training: published weights (`init_from`), complete or as far as they fit, and frozen parts.

All of it is checked before any worker starts.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from settings.training import TrainingSettings, require_folder
from workspace.errors import UserError
from workspace.exact.manifest import NAME, read_manifest

NAMED = 4
"""Number of differences that an error names."""
LEAST = 0.05
"""Share of a model's numbers that must fit: with less it would start from random weights under another name."""
NEAREST = 3
"""Names that an error offers for one that is not there."""
Refit = Callable[[str, Tensor, Tensor, Any, Any], tuple[Tensor, list[str]] | None]
"""A weight's name, its value there and here, both configs → the value here and what differs; None: only equal shapes fit."""


def same_shape(
    name: str, there: Tensor, here: Tensor, config_there: Any, config_here: Any
) -> tuple[Tensor, list[str]] | None:
    """A `Refit` for a model none of whose weights can be resized."""
    return None


@dataclass(frozen=True)
class Start:
    """The weights that a model in training got from elsewhere.

    Attributes:
        taken: names of the weights that were read, including resized ones.
        frozen: names of the weights that do not learn.
        told: one line for each weight that differs from there.
    """

    taken: frozenset[str] = frozenset()
    frozen: frozenset[str] = frozenset()
    told: tuple[str, ...] = ()


def started(model: nn.Module, settings: TrainingSettings, refit: Refit = same_shape) -> Start:
    """Prepare a model for training: weights of `init_from`, if given, and frozen parts.

    Raises:
        UserError: the weights are missing or do not fit, or a pattern of `freeze` fits nothing.
    """
    kind = settings.SECTION  # a training's artifact kind equals its section's name
    weights: dict[str, Tensor] = {}
    told: list[str] = []
    if settings.init_from is not None:
        setting = f"{kind}.init_from"
        if settings.init_partial:
            weights, told = fitting_weights(settings.init_from, model, setting, kind, refit)
        else:
            weights = start_weights(settings.init_from, model, setting, kind)
        model.load_state_dict(model.state_dict() | weights)
    frozen = freeze(model, settings.freeze, f"{kind}.freeze")
    return Start(frozenset(weights), frozen, tuple(told))


def start_weights(folder: Path, model: nn.Module, setting: str, kind: str) -> dict[str, Tensor]:
    """The weights of a published model, if all of them fit.

    Args:
        folder: the setting's value.
        model: the model to load them into; its `config` is a dataclass.
        setting: the setting's name, for errors.
        kind: the artifact's kind: mqvae or stackformer.

    Raises:
        UserError: the weights are missing, damaged, of another kind, not finite, or of another shape; the error names the
            differences.
    """
    there = _published(folder, model, setting, kind)
    weights: dict[str, Tensor] = there.state_dict()
    wanted = {name: tensor.shape for name, tensor in model.state_dict().items()}
    shapes = {name: tensor.shape for name, tensor in weights.items()}
    one, other = (getattr(config, "condition", None) for config in (there.config, model.config))
    if wanted != shapes or one != other:
        differ = differences(asdict(there.config), asdict(model.config))  # type: ignore[call-overload]
        raise UserError(
            f"{setting} is {folder}, whose weights do not fit: {differ}; make them equal, set {kind}.init_partial: true "
            f"(what fits is taken, the rest is new), or {setting} to null"
        )
    return weights


def fitting_weights(
    folder: Path, model: nn.Module, setting: str, kind: str, refit: Refit
) -> tuple[dict[str, Tensor], list[str]]:
    """The weights of a published model as far as they fit, and a line for each that does not, or not as it is.

    Args:
        folder, model, setting, kind: see `start_weights`.
        refit: resizes weights.

    Raises:
        UserError: as `start_weights`, but of another shape; hardly any fits.
    """
    there = _published(folder, model, setting, kind)
    weights, here = there.state_dict(), model.state_dict()
    taken: dict[str, Tensor] = {}
    told = []
    for name, tensor in here.items():
        old = weights.get(name)
        fitted = None if old is None else refit(name, old, tensor, there.config, model.config)
        if fitted is not None:
            taken[name], changes = fitted
            told += [f"{setting}: {name}: {change}" for change in changes]
        elif old is not None and old.shape == tensor.shape:
            taken[name] = old
        else:
            told.append(
                f"{setting}: {name} is new: {_shape(tensor)} here, {_shape(old) if old is not None else 'not'} there"
            )
    told += [f"{setting}: {name} is not needed here" for name in weights if name not in here]
    if sum(tensor.numel() for tensor in taken.values()) < LEAST * sum(
        tensor.numel() for tensor in here.values()
    ):
        differ = differences(asdict(there.config), asdict(model.config))  # type: ignore[call-overload]
        raise UserError(
            f"{setting} is {folder}, and hardly any of its weights fits: {differ}; set {setting} to null"
        )
    return taken, told


def _shape(tensor: Tensor) -> str:
    return " × ".join(map(str, tensor.shape)) or "a number"


def _published(folder: Path, model: nn.Module, setting: str, kind: str) -> Any:
    require_folder(folder, setting)
    try:
        if (folder / NAME).is_file():
            read_manifest(folder, kind)
        there: Any = type(model).from_pretrained(folder)  # type: ignore[attr-defined]
    except ValueError as error:
        raise UserError(f"{setting}: {error}") from error
    for name, tensor in there.state_dict().items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise UserError(f"{setting} is {folder}, whose weights {name} are not finite; use another folder")
    return there


def freeze(model: nn.Module, patterns: Sequence[str], setting: str) -> frozenset[str]:
    """Stop weights from learning: those whose module, or they themselves, have a name that a pattern fits.

    Args:
        model: its parameters get `requires_grad` false; buffers are only named in the result.
        patterns: names as in `model.named_modules()` and its state, with `*`, `?` and `[…]` as in file names.
        setting: the setting's name, for errors.

    Returns:
        Names of the weights and buffers that are frozen.

    Raises:
        UserError: a pattern fits nothing, or nothing is left to learn.
    """
    state = list(model.state_dict())
    names = dict.fromkeys([name for name, _ in model.named_modules() if name] + state)
    frozen: set[str] = set()
    for pattern in patterns:
        hits = [name for name in names if fnmatchcase(name, pattern)]
        if not hits:
            near = get_close_matches(pattern, names, NEAREST, cutoff=0.4) or [
                name for name, _ in model.named_children()
            ]
            raise UserError(
                f"{setting} names {pattern}, which is not a part of this model; the nearest are {', '.join(near)}"
            )
        frozen |= {name for name in state if any(f"{name}.".startswith(f"{hit}.") for hit in hits)}
    for name, parameter in model.named_parameters():
        if name in frozen:
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UserError(
            f"{setting} is {list(patterns)}: nothing is left to learn; freeze fewer parts, or do not train"
        )
    return frozenset(frozen)


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """The differences between two configs: `num_codes is 64 there and 128 here`."""
    one, other = _flat(there), _flat(here)
    told = [
        f"{name} is {one[name]} there and {other[name]} here" for name in one if one[name] != other.get(name)
    ]
    return ", ".join(told[:NAMED]) + (f" and {len(told) - NAMED} more" if told[NAMED:] else "")


def _flat(config: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in config.items():
        found |= _flat(value, f"{before}{name}.") if isinstance(value, dict) else {before + name: value}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}
