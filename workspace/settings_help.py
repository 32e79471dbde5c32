"""The settings in a stage's `--help`: name, current value, type, range and meaning, including nested ones.

Ranges come from pydantic's constraints. A dataclass gives them at the end of each attribute's description in its docstring,
`(≥ 1)`, and checks them in its constructor; a test tries each on the real settings.
"""

import inspect
import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel

from workspace.errors import UserError
from workspace.settings import Compute, Section, read_tree, validate_section

WIDTH = 100
WORDS = {
    int: "whole number",
    float: "number",
    str: "text",
    bool: "true or false",
    Path: "path",
    NoneType: "null",
}
SIGNS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
RANGE = re.compile(r" \(([^()]*[≤≥<>][^()]*)\)$")


@dataclass(frozen=True)
class Knob:
    """One setting.

    Attributes:
        name: dotted, its section first.
        type: as text, with the choices.
        range: `≥ 1`, or "".
        about: its meaning.
    """

    name: str
    type: str
    range: str
    about: str


def settings_text(kind: type[Section], params: Path) -> str:
    """The settings of a section and of `compute`, with their values in a params file if it has them.

    A missing or invalid file gets one line; the settings are still listed.
    """
    values, note = _values(kind, params)
    parts = [
        f"settings, with their values in {params} (another one for one run: --set NAME=VALUE --out DIR):"
    ]
    parts += [f"  ! {note}"] if note else []
    for of in (kind, Compute):
        parts += [_entry(knob, values) for knob in knobs(of.SECTION, of)]
    return "\n".join(parts)


def _values(kind: type[Section], params: Path) -> tuple[Mapping[str, Any], str]:
    """The file's values as far as they can be read, and a note about what is wrong."""
    try:
        tree = read_tree(params)
    except UserError as error:
        return {}, str(error)
    try:
        for of in (kind, Compute):
            validate_section(params, of, tree.get(of.SECTION))
    except UserError as error:
        return tree, str(error)
    return tree, ""


def _entry(knob: Knob, values: Mapping[str, Any]) -> str:
    """A setting's lines of the help."""
    about = f"{knob.type}{f', {knob.range}' if knob.range else ''}{f': {knob.about}' if knob.about else ''}"
    lines = textwrap.wrap(about, WIDTH - 6, break_long_words=False, break_on_hyphens=False)
    return "\n".join([f"  {knob.name}{_present(knob.name, values)}", *(f"      {line}" for line in lines)])


def _present(name: str, values: Any) -> str:
    for key in name.split("."):
        if not isinstance(values, Mapping) or key not in values:
            return ""
        values = values[key]
    return f" = {json.dumps(values, ensure_ascii=False, default=str)}"


def knobs(section: str, kind: type[Any]) -> Iterator[Knob]:
    """The settings of a section in the order of its class, including those of nested classes."""
    for name, hint, about in _fields(kind):
        plain, bounds = _bare(hint)
        dotted = f"{section}.{name}"
        if _nested(plain):
            yield from knobs(dotted, plain)
            continue
        told = RANGE.search(about)
        yield Knob(dotted, _type(plain), bounds or (told[1] if told else ""), RANGE.sub("", about))


def _nested(kind: Any) -> bool:
    return isinstance(kind, type) and (issubclass(kind, BaseModel) or is_dataclass(kind))


def _fields(kind: type[Any]) -> Iterator[tuple[str, Any, str]]:
    """Name, type and description of each field of a settings class or config dataclass."""
    hints = get_type_hints(kind, include_extras=True)
    if issubclass(kind, BaseModel):
        for name, field in kind.model_fields.items():
            yield (
                name,
                Annotated[(hints[name], *field.metadata)] if field.metadata else hints[name],
                field.description or "",
            )
        return
    told = attributes(kind)
    for inner in fields(kind):
        yield inner.name, hints[inner.name], told.get(inner.name, "")


def attributes(kind: type[Any]) -> dict[str, str]:
    """A docstring's `Attributes:`: name → description; an entry may describe several names."""
    _, _, block = inspect.cleandoc(kind.__doc__ or "").partition("Attributes:\n")
    found: dict[str, str] = {}
    for entry in re.split(r"\n    (?=\w)", "\n" + textwrap.dedent(block).replace("\n", "\n    ")):
        names, colon, about = entry.partition(":")
        if colon:
            found |= dict.fromkeys(re.split(r",\s*", names.strip()), " ".join(about.split()).rstrip("."))
    return found


def _bare(hint: Any) -> tuple[Any, str]:
    """A type without its annotations, and the range that they define."""
    bounds: dict[str, Any] = {}
    while get_origin(hint) is Annotated:
        for constraint in hint.__metadata__:
            bounds |= {
                name: getattr(constraint, name)
                for name in SIGNS
                if getattr(constraint, name, None) is not None
            }
        hint = get_args(hint)[0]
    if get_origin(hint) in (Union, UnionType, tuple, list):
        each = "each " if get_origin(hint) in (tuple, list) else ""
        return hint, next((each + told for told in (_bare(part)[1] for part in get_args(hint)) if told), "")
    if hint is int and "gt" in bounds:
        bounds["ge"] = bounds.pop("gt") + 1
    told = {name: f"{bound:g}" if isinstance(bound, float) else str(bound) for name, bound in bounds.items()}
    return hint, ", ".join(f"{SIGNS[name]} {told[name]}" for name in SIGNS if name in told)


def _type(kind: Any) -> str:
    """A type as text."""
    kind, _ = _bare(kind)
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        values = [str(one).lower() if isinstance(one, bool) else str(one) for one in inner]
        return "one of " + ", ".join(values) if len(values) > 1 else values[0]
    if origin in (Union, UnionType):
        return " or ".join(_type(part) for part in inner)
    if origin in (list, tuple):
        parts = [part for part in inner if part is not Ellipsis]
        one = (
            f"{{{', '.join(name for name, _, _ in _fields(parts[0]))}}}"
            if _nested(parts[0])
            else _type(parts[0])
        )
        return f"list of {one}" if origin is list or Ellipsis in inner else f"list of {len(parts)} × {one}"
    if origin is dict:
        return f"mapping of {_type(inner[0])} to {_type(inner[1])}"
    return WORDS[kind]
