"""The data's own labels as heads of a classifier: an attribute each, or the class.

A label is the index of its value in the head's list; -1 where an image does not say.
"""

import re
from collections.abc import Mapping, Sequence

Heads = Mapping[str, tuple[str, ...]]

CLASS_HEAD = "class"
UNKNOWN = -1


def heads_of(
    classes: Sequence[str] | None, attributes: Mapping[str, Sequence[str]] | None
) -> dict[str, tuple[str, ...]]:
    """One head an attribute with at least two values; else one for the class; none for unlabelled data."""
    heads = {name: tuple(values) for name, values in sorted((attributes or {}).items()) if len(values) >= 2}
    if heads or classes is None:
        return heads
    return {CLASS_HEAD: tuple(classes)}


def class_head(heads: Heads, classes: Sequence[str] | None) -> str | None:
    """The head whose values are the classes, if there is one."""
    for name, values in heads.items():
        if classes is not None and set(values) == set(classes):
            return name
    return None


def expected_values(
    heads: Heads, classes: Sequence[str] | None, cls: int | None, attributes: Mapping[str, str] | None
) -> list[int]:
    """The label of each head for an image of a class (index) and with attributes, where it has them."""
    by_class = class_head(heads, classes)
    found = []
    for name, values in heads.items():
        value = (attributes or {}).get(name)
        if value is None and name == by_class and classes is not None and cls is not None:
            value = classes[cls]
        found.append(values.index(value) if value in values else UNKNOWN)
    return found


def expected_of_prompt(heads: Heads, prompt: str) -> list[int]:
    """The label of each head that a caption asks for: the value whose words stand in it, if only one does."""
    found = []
    for values in heads.values():
        named = [
            index
            for index, value in enumerate(values)
            if re.search(rf"\b{re.escape(value)}\b", prompt, re.IGNORECASE)
        ]
        found.append(named[0] if len(named) == 1 else UNKNOWN)
    return found
