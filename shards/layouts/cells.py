"""Cells of tables: labels as names of classes, captions as texts."""

import math
import re
from typing import Any

from shards.layouts.listed import clean_caption
from workspace.errors import UserError

INSIDE = ("raw", "caption", "text", "sentence")
"""Of an object that is a caption: the field with its text."""


def label_text(value: Any, name: str, table: str) -> str | None:
    """A label as a class's name; None where there is none.

    Raises:
        UserError: several labels, or a vector.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, (list, dict, tuple)):
        raise UserError(f"{table}: the label of {name} is {str(value)[:60]}; expected one class an image")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = clean_caption(str(value))
    return re.sub(r"^(-?\d+)\.0$", r"\1", text) if text.lower() not in ("", "nan") else None


def captions_of(value: Any) -> list[str]:
    """A cell's captions: a text, or a list of them, each of which may be an object that has it (Karpathy's `sentences`)."""
    values = value if isinstance(value, list) else [value]
    values = [
        next((one[name] for name in INSIDE if name in one), None) if isinstance(one, dict) else one
        for one in values
    ]
    return [text for one in values if one is not None and (text := clean_caption(str(one)))]
