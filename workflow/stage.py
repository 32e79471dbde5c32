"""The definition of a stage: a worker that takes plain values, and what the command line needs to know about it."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from workspace.runs import RunFolder, nothing_more
from workspace.settings import Compute, Section

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from workflow.params import Params

S = TypeVar("S", bound=Section)
I = TypeVar("I", bound="DataclassInstance")  # noqa: E741


def no_urls(settings: Any) -> Mapping[str, str]:
    """No data at a URL."""
    return {}


def no_sources(settings: Any) -> Sequence[Path]:
    """No files besides the inputs."""
    return ()


@dataclass(frozen=True)
class Options:
    """Options of a stage's command line that set settings.

    Attributes:
        help: option → what it does.
        changes: the values given, by option → `section.key=value` each.
        metrics: whether the numbers are what they ask for: without `--metrics` these go to OUT/metrics.
        inputs: the same values, and the paths of the inputs → the inputs that are read instead, optional ones with them.
    """

    help: Mapping[str, str] = field(default_factory=dict)
    changes: Callable[[Mapping[str, Sequence[str]]], list[str]] = lambda asked: []
    inputs: Callable[[Mapping[str, Sequence[str]], dict[str, Path]], dict[str, Path]] = lambda asked, paths: (
        paths
    )
    metrics: bool = False


@dataclass(frozen=True)
class Stage(Generic[S, I]):
    """One stage.

    Attributes:
        name: name of its module, `stages/NAME.py`, and of its entry in dvc.yaml.
        about: the first text of `--help`.
        settings: class of its section.
        inputs: dataclass of the paths that it reads, an option each, but for those that have a default.
        run: does the work, from (settings, compute, inputs, folder).
        sources: data that it reads besides its inputs, identified by names, sizes and times.
        urls: data at a URL that it reads besides its inputs, `source URL` → the fingerprint of what is there now.
        weights: trained weights that it reads besides its inputs, files or folders, identified by their bytes.
        elsewhere: raises a UserError if files of its finished artifact that are in such a folder are missing.
        homes: folders that it writes to besides its outputs, which must not contain them.
        preflight: checks the whole params file and the data before any work; raises UserError.
        reuses: whether to keep the last finished run until this one is done, because it reuses its results.
        options: options that set settings.
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
    homes: Callable[[S], Sequence[Path]] = no_sources
    elsewhere: Callable[[Path], None] = nothing_more
    urls: Callable[[S], Mapping[str, str]] = no_urls


def stage_named(name: str) -> Stage[Any, Any]:
    """The stage in `stages/NAME.py`, imported on demand, because some take seconds."""
    stage = importlib.import_module(f"stages.{name}").STAGE
    assert isinstance(stage, Stage), name
    return stage
