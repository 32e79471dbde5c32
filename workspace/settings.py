"""params.yaml → frozen, validated sections: only the mechanism. Each section's class is a file in settings/; together they
form `workflow.params.Params`.

Errors name the first mistake in one line, with the nearest valid key; unknown keys come before all other mistakes.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    StringConstraints,
    ValidationError,
)

from workspace.bases import nearest, whole
from workspace.careful_yaml import careful_yaml
from workspace.errors import UserError
from workspace.renamed import refuse_renamed_changes
from workspace.stores.addresses import is_url, refuse_unwritable
from workspace.stores.cache import FOLDER, MOST_BYTES, Cache

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
"""The stages in the order of the workflow; each is `stages/<name>.py`."""

Sha256 = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
"""A SHA-256 in hex, 64 lower-case digits."""


class Settings(BaseModel):
    """Base of all settings: frozen, without unknown keys or defaults (params.yaml has every setting)."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    def replaced(self, **changes: Any) -> Self:
        """A validated copy with some values changed."""
        return type(self).model_validate(dict(self) | changes)


def refuse_tilde(setting: str, path: str | None) -> None:
    """UserError for a path from `~` on, which only a shell expands: here and for DVC it would be a folder of that name."""
    if path is not None and path.startswith("~"):
        raise UserError(f"{setting} is {path}; expected the path in full: only a shell reads ~ as your home")


class Section(Settings):
    """Base of a section of params.yaml."""

    SECTION: ClassVar[str]
    """The section's name in the file."""

    def check(self, where: str, compute: "Compute") -> None:
        """Check that the settings of this section fit together.

        Args:
            where: file and section, for errors.
            compute: the number of workers.

        Raises:
            UserError: the first check that fails.
        """


class Compute(Section):
    """Where to compute, which never affects a result: no stage declares this section to DVC."""

    SECTION = "compute"
    device: Literal["auto", "cpu", "cuda"] = Field(description="auto uses a GPU if there is one")
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
        default=None,  # defaults here and below keep older params files valid
        description="where to copy checkpoints: a path, or a URL of a store (s3://…); null copies nowhere",
    )
    cache_folder: str | None = Field(
        default=None,
        description="where files of a URL are kept on each node: a folder on its own disk; null is .runs/cache",
    )
    cache_bytes: PositiveInt = Field(
        default=MOST_BYTES,
        description="what the files there have in all, at most; the least recently used leave",
    )
    deterministic: bool = Field(
        default=False,
        description="trainings on a GPU give the same bits each time, but slower; on a CPU they always do",
    )
    logging: list[Literal["tensorboard"]] = Field(
        default=[],
        description="what trainings write beside their curves: tensorboard, event files in .runs/STAGE/RUN/events",
    )

    def check(self, where: str, compute: "Compute") -> None:
        """Check that checkpoints can be copied, and that the cache is on a disk."""
        refuse_tilde(f"{where}.checkpoints", self.checkpoints)
        refuse_tilde(f"{where}.cache_folder", self.cache_folder)
        if self.checkpoints is not None and not self.checkpoints.strip():
            raise UserError(
                f"{where}.checkpoints is {self.checkpoints!r}; expected a path or URL, or null: they are not copied"
            )
        if self.checkpoints is not None and (is_url(self.checkpoints) or "::" in self.checkpoints):
            refuse_unwritable(self.checkpoints, f"{where}.checkpoints")
        if self.cache_folder is not None and is_url(self.cache_folder):
            raise UserError(
                f"{where}.cache_folder is {self.cache_folder}; expected a folder on a disk of each node"
            )

    @property
    def cache(self) -> Cache:
        """Where a node keeps files of a URL."""
        return Cache(Path(self.cache_folder) if self.cache_folder else FOLDER, self.cache_bytes).absolute()

    @property
    def threads_per_worker(self) -> int:
        """The setting, or the machine's cores divided by the number of workers."""
        return self.threads or max(1, (os.cpu_count() or 1) // max(1, self.workers))

    @property
    def threads_alone(self) -> int:
        """Threads or processes for a stage that works alone: all of its workers' threads, at most the machine's cores."""
        return min(os.cpu_count() or 1, self.threads_per_worker * max(1, self.workers))


S = TypeVar("S", bound=Section)
MOST_FILE_BYTES = 1 << 18
"""Bound for a params file."""


def read_section(path: Path, kind: type[S], overrides: Sequence[str] = ()) -> S:
    """One section of a params file, whatever the others hold, for a stage run by hand.

    Args:
        path: a YAML file with a section for each stage and `compute`, like presets/shapes.yaml.
        kind: the section's class.
        overrides: `section.key=value`, with the value in YAML; other sections are allowed.

    Raises:
        UserError: the first mistake, in one line; also an override that names no setting of the file.
    """
    tree = read_tree(path, overrides)
    check_names(path, tree.keys() & {kind.SECTION}, (kind.SECTION,))
    return validate_section(path, kind, tree[kind.SECTION])


def read_tree(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """A params file's values merged with its base's and the overrides; only checks that it is YAML with sections.

    Raises:
        UserError: no such file, not YAML, a setting that the base does not have, or an override that the file does not have.
    """
    tree = whole(path, _file(path), _file)
    refuse_renamed_changes(overrides)
    for text in overrides:
        _override(tree, text)
    return tree


def _file(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"{path} does not exist: take one with `cp presets/shapes.yaml {path}`")
    if path.stat().st_size > MOST_FILE_BYTES:
        raise UserError(f"{path} has {path.stat().st_size:,} bytes, expected at most {MOST_FILE_BYTES:,}")
    tree = careful_yaml(path.read_bytes(), str(path))
    if not isinstance(tree, dict):
        raise UserError(f"{path} holds no sections; expected a mapping like presets/shapes.yaml")
    return tree


def _override(tree: dict[str, Any], text: str) -> None:
    """Set one `section.key=value` in the tree; the key must exist."""
    name, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"--set {text}: expected section.key=value")
    *parents, last = name.strip().split(".")
    node: Any = tree
    for depth, key in enumerate([*parents, last]):
        if not isinstance(node, dict) or key not in node:
            near = nearest(key, node) if isinstance(node, dict) and node else ""
            if node == {}:
                near = f" Set all of it: '{'.'.join(parents[:depth])}={{{key}: {value}}}'"
            raise UserError(
                f"--set {text}: {'.'.join([*parents, last][: depth + 1])} is not a setting.{near}"
            )
        if depth < len(parents):
            node = node[key]
    node[last] = careful_yaml(value.encode(), f"--set {text}")


def check_names(path: Path, found: Iterable[str], sections: Sequence[str]) -> None:
    """Check that a file has exactly these sections.

    Raises:
        UserError: it lacks one, or has another.
    """
    names = list(found)
    for name in names:
        if name not in sections:
            raise UserError(f"{path}: {name} is not a section.{nearest(str(name), dict.fromkeys(sections))}")
    for name in sections:
        if name not in names:
            raise UserError(f"{path}: the section {name} is missing; presets/shapes.yaml has one to copy")


def validate_section(path: Path, kind: type[S], value: Any) -> S:
    """One section's values as settings.

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
    """The first mistake in one line; unknown keys come before all others."""
    problems = sorted(error.errors(include_url=False), key=lambda problem: problem["type"] not in UNKNOWN)
    first = problems[0]
    location, at = _locate(value, first["loc"])
    name = ".".join([kind.SECTION, *location])
    if first["type"] in UNKNOWN:
        text = f"{name} is not a setting.{nearest(location[-1], _fields_at(kind, location[:-1]))}"
    elif first["type"] == "missing":
        text = f"{kind.SECTION}.{'.'.join(str(part) for part in first['loc'])} is missing"
    elif first["type"] == "value_error":
        text = f"{name}: {first['ctx']['error']}"
    else:
        message = first["msg"].replace("Input should be", "expected")
        same = {problem["type"] for problem in problems if _place(value, problem) == _place(value, first)}
        lists = same & {"list_type", "tuple_type"}
        hint = _as_list(at, len(same) > 1) if lists else _hint(at, first["type"])
        text = f"{name} is {json.dumps(at)}: {message[0].lower()}{message[1:]}{hint}"
    others = len({_place(value, problem) for problem in problems}) - 1
    return text + (f" (and {others} more to fix)" if others else "")


def _place(value: Any, problem: Mapping[str, Any]) -> tuple[object, ...]:
    """Where a mistake is; the variants of a union are at one place, as one value fits none of them."""
    if problem["type"] in (*UNKNOWN, "missing"):
        return tuple(problem["loc"])
    return tuple(_locate(value, problem["loc"])[0])


def _as_list(value: Any, besides: bool) -> str:
    """A hint for one value, or several with commas, where a list is expected."""
    parts = [part.strip() for part in value.split(",")] if isinstance(value, str) else [value]
    written = json.dumps(parts, ensure_ascii=False)
    return f"{', or a list' if besides else ''}: {written}" if value not in (None, "") else ""


UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")


def _hint(value: Any, mistake: str) -> str:
    """A hint for a number in quotes, which YAML reads as text, and for a whole one that is written as another."""
    if isinstance(value, float) and value.is_integer() and mistake.startswith("int"):
        return f" (write {value:.0f})"
    try:
        return f" (without quotes: {float(value):g})" if isinstance(value, str) else ""
    except ValueError:
        return ""


def _locate(value: Any, location: Sequence[int | str]) -> tuple[list[str], Any]:
    """Follow a pydantic location through the values, leaving out names that are not in them (a union's variants)."""
    found: list[str] = []
    for part in location:
        in_list = isinstance(value, list) and isinstance(part, int) and part < len(value)
        if in_list or (isinstance(value, dict) and part in value):
            value = value[part]
            found.append(str(part))
    return found, value


def _fields_at(kind: Any, location: Sequence[str]) -> dict[str, str]:
    """Field names of the class at a location → their descriptions, if given."""
    for part in location:
        if isinstance(kind, type) and issubclass(kind, BaseModel) and part in kind.model_fields:
            kind = kind.model_fields[part].annotation
        elif is_dataclass(kind) and not part.isdigit():
            # a number is a place in a list, whose elements have one class
            kind = next(field.type for field in fields(kind) if field.name == part)
        while get_args(kind):
            kind = get_args(kind)[0]
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return {name: field.description or "" for name, field in kind.model_fields.items()}
    return {field.name: "" for field in fields(kind)} if is_dataclass(kind) else {}
