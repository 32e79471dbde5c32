"""Fields that came later to what is written as JSON: left out at their defaults, so that older artifacts keep their bytes."""

import dataclasses
from typing import Any

LEFT_OUT_AT_DEFAULT = {"left out at its default": True}
"""Metadata of such a field."""


def written(config: Any) -> dict[str, Any]:
    """A config dataclass's fields in the written form."""
    values = dataclasses.asdict(config)
    left_out = [
        field.name
        for field in dataclasses.fields(config)
        if field.metadata == LEFT_OUT_AT_DEFAULT and getattr(config, field.name) == field.default
    ]
    return {name: value for name, value in values.items() if name not in left_out}
