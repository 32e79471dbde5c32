"""Published weights that a training starts from (`init_from`), checked before any worker starts."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from settings.training import TrainingSettings, require_folder
from workspace.errors import UserError
from workspace.exact.manifest import NAME, read_manifest

M = TypeVar("M", bound=nn.Module)
NAMED = 4
"""Differences that an error names."""


def started(model: M, settings: TrainingSettings) -> M:
    """The model before its first step: with the weights of `init_from`, or with its random ones where that is null.

    Raises:
        UserError: the weights are missing or do not fit.
    """
    if settings.init_from is not None:
        kind = settings.SECTION  # the artifact of a training is called like its section
        model.load_state_dict(start_weights(settings.init_from, model, f"{kind}.init_from", kind))
    return model


def start_weights(folder: Path, model: nn.Module, setting: str, kind: str) -> dict[str, Tensor]:
    """The weights of a published model, if they fit.

    Args:
        folder: what the setting names.
        model: what they are to be put into; its `config` is a dataclass.
        setting: the setting's name, for errors.
        kind: of an artifact: mqvae or stackformer.

    Raises:
        UserError: missing, damaged, of another kind, not finite, or of another shape; what differs is named.
    """
    require_folder(folder, setting)
    try:
        if (folder / NAME).is_file():
            read_manifest(folder, kind)
        there: Any = type(model).from_pretrained(folder)  # type: ignore[attr-defined]
    except ValueError as error:
        raise UserError(f"{setting}: {error}") from error
    weights: dict[str, Tensor] = there.state_dict()
    wanted = {name: tensor.shape for name, tensor in model.state_dict().items()}
    if wanted != {name: tensor.shape for name, tensor in weights.items()}:
        told = differences(asdict(there.config), asdict(model.config))  # type: ignore[call-overload]
        raise UserError(
            f"{setting} is {folder}, whose weights do not fit: {told}; make them equal, or set it to null"
        )
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise UserError(
                f"{setting} is {folder}, whose weights {name} are not finite; take another folder"
            )
    return weights


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """The fields in which two configs differ: `num_codes is 64 there and 128 here`."""
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
