"""Table cells: a label as a class name, captions as texts."""

import math
import re
from typing import Any

from shards.layouts.listed import clean_caption
from workspace.errors import UserError

INSIDE = ("raw", "caption", "text", "sentence")
"""Fields that hold the text of a caption given as an object."""


def label_text(value: Any, name: str, table: str) -> str | None:
    """A label as a class name; None if the cell is empty.

    Raises:
        UserError: several labels, or a vector.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, (list, dict, tuple)):
        raise UserError(f"{table}: the label of {name} is {str(value)[:60]}; expected one class per image")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = clean_caption(str(value))
    return re.sub(r"^(-?\d+)\.0$", r"\1", text) if text.lower() not in ("", "nan") else None


def captions_of(value: Any) -> list[str]:
    """A cell's captions: a text, or a list of texts or of objects with a text field (Karpathy's `sentences`)."""
    values = value if isinstance(value, list) else [value]
    values = [
        next((one[name] for name in INSIDE if name in one), None) if isinstance(one, dict) else one
        for one in values
    ]
    return [text for one in values if one is not None and (text := clean_caption(str(one)))]
