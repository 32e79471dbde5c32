"""What a stage is: a worker that takes plain values, and what the command line needs to know of it."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from workspace.runs import RunFolder
from workspace.settings import Compute, Section

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from workflow.params import Params

S = TypeVar("S", bound=Section)
I = TypeVar("I", bound="DataclassInstance")  # noqa: E741


def no_sources(settings: Any) -> Sequence[Path]:
    """Nothing is read but the inputs."""
    return ()


@dataclass(frozen=True)
class Options:
    """Options of a stage's command line that stand for settings.

    Attributes:
        help: option → what it does.
        changes: the values given, by option → `section.key=value` each.
    """

    help: Mapping[str, str] = field(default_factory=dict)
    changes: Callable[[Mapping[str, Sequence[str]]], list[str]] = lambda asked: []


@dataclass(frozen=True)
class Stage(Generic[S, I]):
    """One stage.

    Attributes:
        name: of its module `stages/NAME.py`, and of its entry in dvc.yaml.
        about: what `--help` says first.
        settings: class of its section.
        inputs: dataclass of the paths that it reads, an option each.
        run: does the work, from (settings, compute, inputs, folder).
        sources: data that it reads beside its inputs, known by names, sizes and times.
        weights: trained weights that it reads beside its inputs, files or folders, known by their bytes.
        preflight: looks at a whole params file and the data before any work; raises UserError.
        reuses: whether the last finished run is kept until this one is done, to take from.
        options: that stand for settings.
    """

    name: str
    about: str
    settings: type[S]
    inputs: type[I]
    run: Callable[[S, Compute, I, RunFolder], None]
    sources: Callable[[S], Sequence[Path]] = no_sources
    preflight: "Callable[[Params, Path], None] | None" = None
    reuses: bool = False
    options: Options = Options()
    weights: Callable[[S], Sequence[Path]] = no_sources


def stage_named(name: str) -> Stage[Any, Any]:
    """The stage of `stages/NAME.py`, imported when it is asked for: some take seconds."""
    stage = importlib.import_module(f"stages.{name}").STAGE
    assert isinstance(stage, Stage), name
    return stage
