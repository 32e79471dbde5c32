"""The facts in the manifest of drawn shapes."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class ShapesFacts:
    """Class names, attribute → its values, and split → images."""

    classes: tuple[str, ...]
    attributes: Mapping[str, tuple[str, ...]]
    counts: Mapping[str, int]
