"""Published weights: `model.safetensors` and `config.json`, from which the model is rebuilt without params.yaml."""

import dataclasses
import difflib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from models.base.later import written

WEIGHTS, CONFIG = "model.safetensors", "config.json"
LFS = b"version https://git-lfs"
"""How a pointer of Git LFS begins."""


RENAMED = {"stem": "patch_size", "multipliers": "channel_multipliers"}
"""Renamed config fields: old → new."""

M = TypeVar("M", bound=torch.nn.Module)


def config_from_json(kind: Any, values: Mapping[str, Any]) -> Any:
    """Build a config dataclass from JSON values: nested dataclasses and tuples are restored.

    Raises:
        ValueError: an unknown or missing key; old names are all listed with their new ones.
    """
    old = [f"{name} is now {RENAMED[name]}" for name in values if name in RENAMED]
    if old:
        raise ValueError(f"{', '.join(old)}: rename {'it' if len(old) == 1 else 'them'} in {CONFIG}")
    names = {field.name for field in dataclasses.fields(kind)}
    hints = {name: hint for name, hint in get_type_hints(kind).items() if name in names}
    for name in values:
        if name not in hints:
            near = difflib.get_close_matches(name, hints, n=1)
            raise ValueError(
                f"{name} is not a field of {kind.__name__}{f'; did you mean {near[0]}?' if near else ''}"
            )
    missing = sorted(hints.keys() - values.keys() - _with_a_default(kind))
    if missing:
        raise ValueError(f"{kind.__name__} lacks {', '.join(missing)}")
    return kind(**{name: _restore(hints[name], value) for name, value in values.items()})


def _with_a_default(kind: Any) -> set[str]:
    """Fields added later, which have defaults because older published models lack them."""
    unset = dataclasses.MISSING
    return {
        field.name
        for field in dataclasses.fields(kind)
        if field.default is not unset or field.default_factory is not unset
    }


def _restore(hint: Any, value: Any) -> Any:
    if dataclasses.is_dataclass(hint):
        return config_from_json(hint, value)
    if get_origin(hint) is tuple and isinstance(value, list):
        return tuple(value)
    if value is not None and any(get_origin(arm) is tuple for arm in get_args(hint)):
        return tuple(value)
    return value


def save_pretrained(model: torch.nn.Module, config: Any, folder: str | Path) -> None:
    """Write a model's weights (without metadata, so that equal weights give equal bytes) and its config into `folder`."""
    folder = Path(folder).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, folder / WEIGHTS)
    text = json.dumps(written(config), indent=2, sort_keys=True) + "\n"
    (folder / CONFIG).write_text(text, encoding="utf-8")


def load_pretrained(kind: Callable[[Any], M], config_kind: Any, folder: str | Path) -> M:
    """Rebuild the model that `kind` makes of a config from a folder written by `save_pretrained`, in eval mode, on the CPU.

    A notebook's default dtype and device change nothing: weights are fp32, or float64 if those of the folder are.

    Raises:
        ValueError: files missing, an unknown config key, or weights that do not fit the config.
    """
    folder = Path(folder).expanduser()
    for name in (WEIGHTS, CONFIG):
        if not (folder / name).is_file():
            raise ValueError(f"{folder / name} does not exist; a model folder holds {WEIGHTS} and {CONFIG}")
    try:
        values = json.loads((folder / CONFIG).read_text(encoding="utf-8-sig"))
        weights = load_file(folder / WEIGHTS)
    except (SafetensorError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{folder} holds a damaged model: {_pointer(folder) or error}") from error
    try:
        config = config_from_json(config_kind, values)
    except (TypeError, AttributeError) as error:  # another program's JSON
        raise ValueError(f"{folder / CONFIG} is not a {config_kind.__name__}: {error}") from error
    except ValueError as error:
        raise ValueError(f"{folder / CONFIG}: {error}") from error
    with torch.device("cpu"), _default_dtype(torch.float32):
        model: M = kind(config)
    dtypes = {tensor.dtype for tensor in weights.values() if tensor.is_floating_point()}
    if torch.float64 in dtypes:
        model.double()
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(
            f"{folder / WEIGHTS} does not fit {CONFIG}: {' '.join(str(error).split())}"
        ) from error
    return model.eval()


def _pointer(folder: Path) -> str:
    """What is there instead, if a clone without Git LFS left its pointer; else ""."""
    for name in (WEIGHTS, CONFIG):
        with (folder / name).open("rb") as file:
            if file.read(len(LFS)) == LFS:
                return f"{name} is a pointer of Git LFS, not the file: run `git lfs pull` where it was cloned"
    return ""


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """What torch makes without a dtype has this one; afterwards the caller's."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
