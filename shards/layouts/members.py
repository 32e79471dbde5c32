"""Members of a tar's samples: which are image, label, caption and mask; and the fields of the member json."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from shards.layouts.cells import captions_of
from shards.layouts.formats import PICTURES
from shards.layouts.listed import Location, clean_caption
from shards.layouts.names import counted
from shards.layouts.reading import FOLDER, Reading
from shards.layouts.tables import lines_of
from shards.layouts.tars import MASK_WORDS
from workspace.errors import UserError
from workspace.exact.json_text import parse_json

LOSSLESS = ("png", "tif", "tiff", "bmp", "gif")
"""Extensions of label maps as well as photographs: beside another picture they are not the image."""
LABELS = ("cls", "label", "class", "cls.txt", "label.txt", "index")
CAPTIONS = ("txt", "caption", "text", "caption.txt")
JSON_LABELS = ("label", "class", "cls", "class_name", "label_name")
JSON_CAPTIONS = ("caption", "captions", "text", "txt")
LOOKED_AT = 50
"""Number of member jsons searched for field names."""
NAME = "name"
"""`shard.columns: {label: name}` takes the label from the key."""
DEEPEST, SHOWN = 4, 3
"""Depth to which nested objects are searched; number of fields named in a note."""


@dataclass(frozen=True)
class Roles:
    """The members' roles; `json.FIELD` means a field of the member json.

    Attributes:
        image: extensions; the first that a sample has is taken.
        label: member with the class.
        caption: member with the captions.
        mask: member with the object's mask.
        said: those that the user named.
    """

    image: tuple[str, ...]
    label: str | None
    caption: str | None
    mask: str | None
    said: frozenset[str] = frozenset()

    def told(self) -> str:
        """`image jpg, label cls, caption none, mask none`."""
        found = {
            "image": "/".join(self.image), "label": self.label, "caption": self.caption, "mask": self.mask
        }  # fmt: skip
        return ", ".join(f"{use} {name or 'none'}" for use, name in found.items())


def roles_of(tars: Any, reading: Reading) -> Roles:
    """The roles of all samples' members, as the user set them or by their names.

    Raises:
        UserError: no sample has a member that the user named.
    """
    found: Counter[str] = Counter(
        name for samples in tars for members in samples.values() for name in members
    )
    said = dict(reading.columns)
    for use, name in said.items():
        first = name.split(".")[0] if name.startswith("json.") else name
        if first not in (FOLDER, NAME) and first not in found:
            there = ", ".join(f".{name}" for name, _ in found.most_common(12))
            raise UserError(
                f"shard.columns: {{{use}: {name}}}: no sample has this member; members are {there}"
            )
    pictures = [name for name in found if f".{name.rpartition('.')[2]}" in PICTURES]
    masks = [name for name in pictures if name.split(".")[0] in MASK_WORDS]
    plain = sorted(set(pictures) - set(masks), key=lambda name: (name in LOSSLESS, -found[name], name))
    jsons = first_jsons(tars)
    fields = {name: inner for value in jsons for name, inner in value.items() if inner is not None}
    for use, name in said.items():
        if name.startswith("json.") and all(field_of(value, name) is None for value in jsons):
            raise UserError(
                f"shard.columns: {{{use}: {name}}}: no json has this field; fields are {counted(sorted(fields), 12)}"
            )
    label = next((name for name in LABELS if name in found), None)
    caption = next((name for name in CAPTIONS if name in found), None)
    return Roles(
        (said["image"],) if "image" in said else tuple(plain),
        said.get("label")
        or label
        or next((f"json.{name}" for name in JSON_LABELS if isinstance(fields.get(name), (str, int))), None),
        said.get("caption")
        or caption
        or next((f"json.{name}" for name in JSON_CAPTIONS if texts_of(fields.get(name))), None),
        said.get("mask") or next(iter(sorted(masks)), None),
        frozenset(said),
    )


def first_jsons(tars: Any) -> list[Mapping[str, Any]]:
    """The member json of the first samples that have one."""
    places = (
        (key, members["json"]) for samples in tars for key, members in samples.items() if "json" in members
    )
    return [json_of(location, key) for key, location in islice(places, LOOKED_AT)]


def field_of(value: Any, role: str) -> Any:
    """The value of `json.caption` or `json.meta.caption` in a json; None if it is missing."""
    name = role.removeprefix("json.")
    if isinstance(value, dict) and name in value:
        return value[name]
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def json_of(location: Location, key: str) -> Mapping[str, Any]:
    """A member json; empty if it is not an object."""
    value = parse_json(location.read(), f"{location.path}: {key}.json")
    return value if isinstance(value, dict) else {}


def wants_json(roles: Roles) -> bool:
    """Whether the member json is read."""
    return any(name is not None and name.startswith("json.") for name in (roles.label, roles.caption))


def texts_of(value: Any) -> tuple[str, ...]:
    """Captions from a text (one per line), or from a list of texts or of objects that hold them."""
    if isinstance(value, str):
        return tuple(filter(None, map(clean_caption, lines_of(value))))
    return (
        tuple(captions_of([one for one in value if isinstance(one, (str, dict))]))
        if isinstance(value, list)
        else ()
    )


def _fields(value: Mapping[str, Any], prefix: str = "json", depth: int = 1) -> Iterator[tuple[str, Any]]:
    """Each field of a json whose value is not an object, named as in `shard.columns`."""
    for name, inner in value.items():
        if isinstance(inner, dict) and depth < DEEPEST:
            yield from _fields(inner, f"{prefix}.{name}", depth + 1)
        else:
            yield f"{prefix}.{name}", inner


def unread_fields(tars: Any, roles: Roles) -> list[str]:
    """Notes about unread fields that look like captions or labels, with the setting that takes each."""
    jsons = first_jsons(tars)
    values: dict[str, list[Any]] = {}
    for value in jsons:
        for name, inner in _fields(value):
            values.setdefault(name, []).append(inner)
    known = values.get(roles.caption or "", [])
    notes = []
    if roles.caption is None or known:
        found = {
            name: own
            for name, own in values.items()
            if name != roles.caption and own != known and _are_texts(own)
        }
        notes += _told(
            "texts that are not read", "caption", {name: texts_of(own[0])[0] for name, own in found.items()}
        )
    if roles.label is None:
        found = {name: own for name, own in values.items() if _are_labels(own)}
        notes += _told("what may be labels", "label", {name: str(own[0]) for name, own in found.items()})
    if values and not notes and not wants_json(roles) and roles.caption is None:
        names = [name.removeprefix("json.") for name in values]
        notes.append(
            f"json has the fields {counted(names, 2 * SHOWN)}, none of which is read: shard.columns: "
            f"{{caption: {next(iter(values))}}} or {{label: …}} takes one"
        )
    return notes


def _told(what: str, use: str, examples: Mapping[str, str]) -> list[str]:
    if not examples:
        return []
    shown = counted([f"{name.removeprefix('json.')} ({text[:40]})" for name, text in examples.items()], SHOWN)
    return [f"json holds {what}: {shown}; shard.columns: {{{use}: {next(iter(examples))}}} takes them"]


def _are_texts(values: Sequence[Any]) -> bool:
    """Whether most values are texts of several words, not addresses or nested json."""
    texts = [text for value in values for text in texts_of(value)[:1]]
    plain = [text for text in texts if " " in text and "://" not in text and not text.startswith(("{", "["))]
    return 2 * len(plain) > len(values)


def _are_labels(values: Sequence[Any]) -> bool:
    """Whether values are words or whole numbers, more than one different, some of which repeat."""
    few = [value for value in values if isinstance(value, (str, int)) and not isinstance(value, bool)]
    plain = [str(value) for value in few if "://" not in str(value) and len(str(value).split()) <= SHOWN]
    return len(plain) == len(values) and 1 < len(set(plain)) <= len(plain) / 2
