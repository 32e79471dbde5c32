"""params.yaml → frozen, validated sections: the mechanism only. Each section's class is a file of settings/; all of them
together are `workflow.params.Params`.

The first mistake is named in one line with the nearest valid key, unknown keys before all others.
"""

import difflib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, StringConstraints, ValidationError

from workspace.bases import whole
from workspace.errors import UserError
from workspace.renamed import refuse_renamed_changes

STAGES = (
    "draw_shapes",
    "shard",
    "reference",
    "train_mqvae",
    "reconstruct",
    "tokenize",
    "train_stackformer",
    "sample",
    "evaluate",
    "report",
)
"""The stages in the order of the flow; `stages/<name>.py` each."""

Sha256 = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
"""A SHA-256 in hex, 64 lower-case digits."""


class Settings(BaseModel):
    """Base of all settings: frozen, no unknown keys, no defaults (params.yaml states every setting)."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    def replaced(self, **changes: Any) -> Self:
        """A copy with some other values, validated like these."""
        return type(self).model_validate(dict(self) | changes)


class Section(Settings):
    """Base of a section of params.yaml."""

    SECTION: ClassVar[str]
    """Its name in the file."""

    def check(self, where: str, compute: "Compute") -> None:
        """Check what must fit between the settings of this section.

        Args:
            where: the file and the section, as an error calls them.
            compute: how many workers there are.

        Raises:
            UserError: the first that does not fit.
        """


class Compute(Section):
    """Where a result is made, never what it is: no stage declares this section to DVC."""

    SECTION = "compute"
    device: Literal["auto", "cpu", "cuda"] = Field(description="auto takes a GPU where there is one")
    workers: NonNegativeInt = Field(description="Ray workers; 0 runs the same functions in this process")
    threads: NonNegativeInt = Field(
        description="torch threads per worker; 0 divides the machine's cores among the workers"
    )
    loader_workers: NonNegativeInt = Field(
        description="processes (in trainings) or threads (elsewhere) that read and decode images for each worker"
    )
    ray_address: str = Field(
        description="local (a running head of ours, or a new one), auto, or HOST:PORT of a cluster's head"
    )
    checkpoints: str | None = Field(
        default=None,  # a default, as below: older params files stay valid
        description="where checkpoints are copied to as well: a path, or a URL for fsspec (s3://…); null is nowhere",
    )
    deterministic: bool = Field(
        default=False,
        description="trainings on a GPU give the same bits each time, slower; a CPU always does",
    )

    @property
    def threads_per_worker(self) -> int:
        """As set, or the machine's cores divided among the workers."""
        return self.threads or max(1, (os.cpu_count() or 1) // max(1, self.workers))

    @property
    def threads_alone(self) -> int:
        """Threads or processes of a stage that works by itself: those of its idle workers, within the machine's cores."""
        return min(os.cpu_count() or 1, self.threads_per_worker * max(1, self.workers))


S = TypeVar("S", bound=Section)
MOST_BYTES, MOST_VALUES, MOST_NESTING = 1 << 18, 100_000, 32
"""Of a params file: bytes, values, levels."""


def read_section(path: Path, kind: type[S], overrides: Sequence[str] = ()) -> S:
    """One section of a params file, whatever the others hold: what a stage run by hand needs.

    Args:
        path: a YAML file with a section for each stage and `compute`, as presets/shapes.yaml has them.
        kind: the section's class.
        overrides: `section.key=value` each, value in YAML; of other sections too.

    Raises:
        UserError: the first mistake, in one line; an override that names no setting of the file is one.
    """
    tree = read_tree(path, overrides)
    check_names(path, tree.keys() & {kind.SECTION}, (kind.SECTION,))
    return validate_section(path, kind, tree[kind.SECTION])


def read_tree(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """A params file's values, and its base's, with some changed; nothing is validated but that it is YAML of sections.

    Raises:
        UserError: no such file, not YAML, or a setting of its own or of an override that its base or the file does not have.
    """
    tree = whole(path, _file(path), _file)
    refuse_renamed_changes(overrides)
    for text in overrides:
        _override(tree, text)
    return tree


def _file(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"{path} does not exist: take one with `cp presets/shapes.yaml {path}`")
    if path.stat().st_size > MOST_BYTES:
        raise UserError(f"{path} has {path.stat().st_size:,} bytes, expected at most {MOST_BYTES:,}")
    tree = _plain(path.read_bytes(), str(path))
    if not isinstance(tree, dict):
        raise UserError(f"{path} holds no sections; expected a mapping like presets/shapes.yaml")
    return tree


def _override(tree: dict[str, Any], text: str) -> None:
    """Set one `section.key=value` in the tree; the key must be there."""
    name, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"--set {text}: expected section.key=value")
    *parents, last = name.split(".")
    node: Any = tree
    for depth, key in enumerate([*parents, last]):
        if not isinstance(node, dict) or key not in node:
            near = _nearest(key, node) if isinstance(node, dict) else ""
            raise UserError(
                f"--set {text}: {'.'.join([*parents, last][: depth + 1])} is not a setting.{near}"
            )
        if depth < len(parents):
            node = node[key]
    node[last] = _plain(value.encode(), f"--set {text}")


class _Loader(yaml.SafeLoader):
    """Numbers as YAML 1.2 and DVC have them: `dvc exp run -S …=1e-5` writes 1e-05, which PyYAML alone takes for text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$"),
    [*"-+.0123456789"],
)


def _plain(text: bytes, where: str) -> Any:
    """YAML → values, few enough and none of them in itself (aliases can stand for more than any memory holds).

    Raises:
        UserError: not YAML, or too much of it.
    """
    try:
        tree = _Loader(text).get_single_data()
    except RecursionError:
        raise UserError(f"{where} is nested too deeply") from None
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{where} is not YAML: {' '.join(str(error).split())[:300]}") from error
    level, count = [tree], 0
    for _ in range(MOST_NESTING):
        count += len(level)
        level = [inner for outer in level for inner in _inner(outer)] if count <= MOST_VALUES else level
        if not level:
            return tree
    raise UserError(
        f"{where} holds more than {MOST_VALUES:,} values, or nests them deeper than {MOST_NESTING}"
    )


def _inner(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, (list, set, tuple)) else ()


def check_names(path: Path, found: Iterable[str], sections: Sequence[str]) -> None:
    """Check that a file has these sections and no others.

    Raises:
        UserError: it lacks one, or has another.
    """
    names = list(found)
    for name in names:
        if name not in sections:
            raise UserError(f"{path}: {name} is not a section.{_nearest(str(name), dict.fromkeys(sections))}")
    for name in sections:
        if name not in names:
            raise UserError(f"{path}: the section {name} is missing; presets/shapes.yaml has one to copy")


def validate_section(path: Path, kind: type[S], value: Any) -> S:
    """One section's values as its settings.

    Raises:
        UserError: the first mistake, by name.
    """
    section = kind.SECTION
    try:
        text = json.dumps(value, allow_nan=False)
    except TypeError as error:
        raise UserError(f"{path}: {section} holds a value that is not plain (a date?): {error}") from error
    except ValueError as error:
        raise UserError(
            f"{path}: {section} holds a number that is not finite, or too long: {error}"
        ) from error
    try:
        return kind.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise UserError(f"{path}: {_explain(kind, value, error)}") from error


def _explain(kind: type[Section], value: Any, error: ValidationError) -> str:
    """The first mistake, unknown keys before all others, as one line."""
    problems = sorted(error.errors(include_url=False), key=lambda problem: problem["type"] not in UNKNOWN)
    first = problems[0]
    location, at = _locate(value, first["loc"])
    name = ".".join([kind.SECTION, *location])
    if first["type"] in UNKNOWN:
        text = f"{name} is not a setting.{_nearest(location[-1], _fields_at(kind, location[:-1]))}"
    elif first["type"] == "missing":
        text = f"{kind.SECTION}.{'.'.join(str(part) for part in first['loc'])} is missing"
    elif first["type"] == "value_error":
        text = f"{name}: {first['ctx']['error']}"
    else:
        message = first["msg"].replace("Input should be", "expected")
        text = f"{name} is {json.dumps(at)}: {message[0].lower()}{message[1:]}{_hint(at)}"
    others = len(problems) - 1
    return text + (f" (and {others} more to fix)" if others else "")


UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")


def _hint(value: Any) -> str:
    """A number in quotes is text."""
    try:
        return f" (without quotes: {float(value):g})" if isinstance(value, str) else ""
    except ValueError:
        return ""


def _locate(value: Any, location: Sequence[int | str]) -> tuple[list[str], Any]:
    """Follow a pydantic location through the values; names that are not in them (a union's arms) are left out."""
    found: list[str] = []
    for part in location:
        in_list = isinstance(value, list) and isinstance(part, int) and part < len(value)
        if in_list or (isinstance(value, dict) and part in value):
            value = value[part]
            found.append(str(part))
    return found, value


def _fields_at(kind: Any, location: Sequence[str]) -> dict[str, str]:
    """Names of the fields of the class at a location → what each is (descriptions where they are given)."""
    for part in location:
        if isinstance(kind, type) and issubclass(kind, BaseModel) and part in kind.model_fields:
            kind = kind.model_fields[part].annotation
        elif is_dataclass(kind):
            kind = next(field.type for field in fields(kind) if field.name == part)
        while get_args(kind):
            kind = get_args(kind)[0]
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return {name: field.description or "" for name, field in kind.model_fields.items()}
    return {field.name: "" for field in fields(kind)} if is_dataclass(kind) else {}


def _nearest(name: str, valid: Mapping[str, Any]) -> str:
    """' Did you mean …?' with the closest valid key, or the list of them all."""
    close = difflib.get_close_matches(name, list(valid), n=1, cutoff=0.5)
    if not close:
        return f" Expected one of: {', '.join(valid)}"
    described = valid[close[0]]
    about = f" ({described})" if isinstance(described, str) and described else ""
    return f" Did you mean {close[0]}{about}?"
