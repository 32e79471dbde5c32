"""The data's own labels as classifier heads: one per attribute, or one for the class.

A label is the index of its value in the head's list; -1 means unknown.
"""

import re
from collections.abc import Mapping, Sequence

Heads = Mapping[str, tuple[str, ...]]

CLASS_HEAD = "class"
UNKNOWN = -1


def heads_of(
    classes: Sequence[str] | None, attributes: Mapping[str, Sequence[str]] | None
) -> dict[str, tuple[str, ...]]:
    """One head per attribute with at least two values; else one for the class; none for unlabelled data."""
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
    """Each head's label for an image with this class (index) and these attributes; -1 where unknown."""
    by_class = class_head(heads, classes)
    found = []
    for name, values in heads.items():
        value = (attributes or {}).get(name)
        if value is None and name == by_class and classes is not None and cls is not None:
            value = classes[cls]
        found.append(values.index(value) if value in values else UNKNOWN)
    return found


def expected_of_prompt(heads: Heads, prompt: str) -> list[int]:
    """Each head's label in a caption: the value whose words occur in it, if only one does.

    Heads may share values ("a red ring on a striped blue background", with colour and background_colour). A head named after a
    thing then takes the last value before that thing, and the other heads search the rest.
    """
    taken = {name: _of_thing(name, heads, prompt) for name in heads if _describes_a_thing(name, heads)}
    spans = [span for span in taken.values() if span is not None]
    found = []
    for name, values in heads.items():
        if name in taken:
            span = taken[name]
            found.append(UNKNOWN if span is None else values.index(span[0]))
        else:
            named = {value for value, start in _named(values, prompt) if (value, start) not in spans}
            found.append(values.index(named.pop()) if len(named) == 1 else UNKNOWN)
    return found


def _describes_a_thing(name: str, heads: Heads) -> bool:
    """Whether a head has a name like background_colour and shares values with another head."""
    shared = any(set(heads[name]) & set(values) for other, values in heads.items() if other != name)
    return "_" in name and shared


def _of_thing(name: str, heads: Heads, prompt: str) -> tuple[str, int] | None:
    """The last of the head's values before the thing it describes ("background"), and its position."""
    place = re.search(rf"\b{re.escape(name.partition('_')[0])}\b", prompt, re.IGNORECASE)
    before = [
        found for found in _named(heads[name], prompt) if place is not None and found[1] < place.start()
    ]
    return max(before, key=lambda found: found[1], default=None)


def _named(values: Sequence[str], prompt: str) -> list[tuple[str, int]]:
    """The values whose words occur in a caption, and their positions."""
    return [
        (value, found.start())
        for value in values
        for found in re.finditer(rf"\b{re.escape(value)}\b", prompt, re.IGNORECASE)
    ]
