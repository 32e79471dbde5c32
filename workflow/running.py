"""The `main()` that every stage shares: arguments → validated settings → a run folder → `run` → published outputs."""

import argparse
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from workflow.command_line import (
    PARAMS,
    PIPELINES,
    by_hand,
    command_in,
    inputs_of,
    option_of,
    parser_of,
    usual_paths,
)
from workflow.origin import origin_of
from workflow.places import check_places
from workflow.stage import I, S, Stage, stage_named
from workspace import garbage
from workspace.code import result_files
from workspace.errors import UserError, is_out_of_memory, told_in_a_line
from workspace.exact.manifest import NAME, address_of, read_json, sha256_file, write_json
from workspace.fingerprints import content_fingerprint, input_fingerprint
from workspace.forced import UNDER_DVC, is_forced
from workspace.holding import forget_others, holds, working
from workspace.outputs import keep
from workspace.progress import say
from workspace.runs import LINES, Identity, RunFolder, mark_done, mend, publish
from workspace.settings import Compute, Section, read_section
from workspace.versions import OF_RUNS, versions


def run_stage(name: str) -> None:
    """Run the stage `stages/<name>.py` from the command line; a user's mistake ends in one line and exit status 1.

    The module is imported by its real name, so that its functions can be sent to Ray workers.
    """
    signal.signal(signal.SIGTERM, _terminated)
    try:
        stage = stage_named(name)
        garbage.collect()  # stages/__init__.py put it off
        run(stage, parser_of(stage).parse_args())
    except KeyboardInterrupt:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # ignore repeated signals
        say(
            f"[{name}] stopped; what is finished is kept: `dvc repro {address_of(name)}` continues from there"
        )
        sys.exit(130)
    except Exception as error:
        told = told_in_a_line(error)
        if told is None:
            raise
        say(f"[{name}] {told}")
        sys.exit(1)


URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
"""What a path makes of the beginning of a URL."""


def _terminated(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _identity(stage: Stage[S, I], settings: S, inputs: dict[str, Path]) -> Identity:
    """Everything that currently determines the result."""
    made_from = {key: input_fingerprint(path) for key, path in inputs.items()}
    for path in stage.sources(settings):
        made_from[f"source {path}"] = input_fingerprint(path)
    made_from |= stage.urls(settings)
    for path in stage.weights(settings):
        made_from[f"weights {path}"] = content_fingerprint(path)
    code = {str(path): sha256_file(ROOT / path) for path in result_files(stage.name)}
    return Identity(settings.model_dump(mode="json"), made_from, code)


ROOT = Path(__file__).resolve().parent.parent


def present_identity(name: str) -> Identity:
    """A stage's identity with the current params, inputs and code (for `workspace.runs adopt`)."""
    from workflow.params import load_params

    stage, usual = stage_named(name), usual_paths(name)
    inputs = {key: usual[key] for key in inputs_of(stage)}
    return _identity(stage, load_params(PARAMS).section(stage.settings), inputs)


@dataclass(frozen=True)
class Request:
    """What a command line asks of a stage.

    Attributes:
        changes: settings with other values, `section.key=value` each.
        inputs: name → the artifact that is read.
        out: where the artifact goes.
        metrics: where the numbers go, or None.
        ad_hoc: whether `out` is another place than dvc.yaml's.
    """

    changes: Sequence[str]
    inputs: dict[str, Path]
    out: Path
    metrics: Path | None
    ad_hoc: bool


def run(stage: Stage[S, I], arguments: argparse.Namespace) -> None:
    """Run a stage as its command line requests.

    Raises:
        UserError: a user's mistake.
    """
    name, asked = stage.name, _request(stage, arguments)
    if asked.changes or asked.ad_hoc:
        settings, compute = _own_sections(stage, arguments.params, asked.changes)
        look = None
    else:
        settings, compute, look = _whole_file(stage, arguments.params)
    _check_homes(stage, settings, [asked.out] if asked.metrics is None else [asked.out, asked.metrics])
    identity = _identity(stage, settings, asked.inputs)
    forced = arguments.force or is_forced()
    reuses = stage.reuses and not forced
    with working(name, identity, asked.ad_hoc or reuses) as folder, _forgotten_if_empty(folder):
        done_before = _is_done(stage, folder, forced)
        if done_before:
            say(f"[{name}] finished before as {folder.root}: publishing it again (--force runs it again)")
        else:
            if look is not None:
                look()
            shards = asked.inputs.get("shards") or usual_paths("train_mqvae").get("shards") or Path()
            origin = origin_of(arguments.params, shards, tuple(asked.changes), by_hand(stage, arguments))
            _work(stage, settings, compute, stage.inputs(**asked.inputs), folder, origin)
            changed = identity.differences(_identity(stage, settings, asked.inputs))
            if changed:
                what = "; ".join(changed)
                raise UserError(
                    f"while this ran, something it depends on changed ({what}); {folder.root} is kept: run again"
                )
            folder.sweep()
            mark_done(folder)
        _publish(name, folder, asked)
        if asked.ad_hoc and not done_before:
            folder.forget()
        elif reuses and not asked.ad_hoc:
            forget_others(folder)
    say(f"[{name}] → {asked.out}")


def _request(stage: Stage[S, I], arguments: argparse.Namespace) -> Request:
    """The command line, with dvc.yaml's paths where it names none; UserError if something is missing or in the way."""
    given, usual = vars(arguments), usual_paths(stage.name)
    options = {option: given[option] for option in stage.options.help}
    typed = [option_of(option) for option, values in options.items() if values]
    changes = [*(stage.options.changes(options) if typed else ()), *arguments.set]
    if (changes or typed) and arguments.out is None:
        used = " and ".join([*typed, *(["--set"] if arguments.set else [])])
        raise UserError(
            f"{used} needs --out FOLDER, so that no tracked artifact is overwritten with an untracked setting"
        )
    ad_hoc = arguments.out is not None and arguments.out != usual.get("out")
    out = arguments.out or usual.get("out", Path())
    metrics = arguments.metrics or (None if ad_hoc else usual.get("metrics"))
    if metrics is None and typed and stage.options.metrics:
        metrics = out / "metrics"
    inputs = {key: given[key] for key in inputs_of(stage)}
    for key, path in {**inputs, "out": arguments.out or usual.get("out")}.items():
        if path is None:
            raise UserError(
                f"{option_of(key)} is missing, and dvc.yaml has no stage {stage.name} to take it from"
            )
    for key, path in inputs.items():
        if URL.match(str(path)):
            raise UserError(
                f"{option_of(key)} {path} is a URL; expected a folder: `python -m shards.attach URL --out FOLDER` makes one of "
                "image shards at a URL"
            )
    check_places(stage.name, out, metrics, inputs, usual)
    inputs = stage.options.inputs(options, inputs) if typed else inputs
    return Request(changes, inputs, out, metrics, ad_hoc)


def _is_done(stage: Stage[S, I], folder: RunFolder, forced: bool) -> bool:
    """Whether a run is finished and whole; a forced one is forgotten, and one that lost files is taken up again."""
    folder.sweep()
    if folder.done and forced:
        say(f"[{stage.name}] finished before as {folder.root}: forgotten, because --force runs it again")
        folder.clear()
    damage = mend(folder, stage.elsewhere) if folder.done else ""
    if damage:
        say(
            f"[{stage.name}] {damage}, and so does {folder.root}, which shares its files: lost files are made again"
        )
    return folder.done


def _publish(name: str, folder: RunFolder, asked: Request) -> None:
    """Put a finished run's artifact and numbers where they were asked for, and say its lines."""
    let_dvc_in(asked.out.parent)
    publish(folder.out, asked.out, link=True)
    if not _cached(name, asked.out):
        keep(asked.out)
    if asked.metrics is not None:
        publish(folder.metrics, asked.metrics, link=False)
        keep(asked.metrics)
    for line in folder.lines(asked.out):
        say(f"[{name}] {line}")


def _check_homes(stage: Stage[S, I], settings: S, outputs: Sequence[Path]) -> None:
    """UserError if a folder that a stage writes to is inside one of its outputs, which is replaced as a whole."""
    for home in stage.homes(settings):
        place = home.resolve()
        for output in outputs:
            if output.resolve() in (place, *place.parents):
                raise UserError(
                    f"{stage.settings.SECTION}.home {home} is inside {output}, which is replaced as a whole; expected a folder "
                    "outside of it"
                )


def _own_sections(stage: Stage[S, I], path: Path, changes: Sequence[str]) -> tuple[S, Compute]:
    """The sections that a run by hand reads; mistakes in other sections, or between two, do not concern it."""
    settings, compute = read_section(path, stage.settings, changes), read_section(path, Compute, changes)
    settings.check(f"{path}: {stage.settings.SECTION}", compute)
    compute.check(f"{path}: {compute.SECTION}", compute)
    return settings, compute


def _whole_file(stage: Stage[S, I], path: Path) -> tuple[S, Compute, Callable[[], None] | None]:
    """The stage's settings from a file that is valid as a whole, and the check to run before any work."""
    from workflow.params import load_params  # imports all sections, which takes seconds

    params = load_params(path)
    look = None if stage.preflight is None else partial(stage.preflight, params, path)
    return params.section(stage.settings), params.compute, look


def _cached(name: str, out: Path) -> bool:
    """Whether DVC caches a stage's output: only the workflow's own, not the demo's pictures or an experiment arm's."""
    return str(out) in command_in(PIPELINES[0], name).split()


@contextmanager
def _forgotten_if_empty(folder: RunFolder) -> Iterator[None]:
    """Leave no run behind if the block fails before anything is made."""
    mine = folder.root.stat()
    try:
        yield
    except BaseException:
        if holds(folder, mine) and folder.empty:
            folder.forget()
        raise


def let_dvc_in(folder: Path) -> None:
    """Let DVC track outputs in a folder that is a link to another disk.

    DVC looks for a `.gitignore` beside an output and refuses one whose real path is outside the repository. A link to the
    repository's own `.gitignore`, which ignores the folder, satisfies it.
    """
    ours = Path(".gitignore").absolute()
    outside = not os.path.realpath(folder).startswith(os.path.join(os.path.realpath("."), ""))
    if UNDER_DVC in os.environ and folder.is_dir() and outside and ours.is_file():
        with suppress(FileExistsError):
            (folder / ".gitignore").symlink_to(ours)


def _work(
    stage: Stage[S, I],
    settings: S,
    compute: Compute,
    inputs: I,
    folder: RunFolder,
    origin: Mapping[str, Any],
) -> None:
    began = time.monotonic()
    (folder.root / LINES).unlink(missing_ok=True)
    shutil.rmtree(folder.out)
    folder.out.mkdir()
    try:
        stage.run(settings, compute, inputs, folder)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(f"{' '.join(str(error).split())[:300]}; {lower_batch(settings)}") from error
    finally:
        folder.add_seconds(time.monotonic() - began)
    assert (folder.out / NAME).is_file(), f"{stage.name} wrote no manifest"
    write_json(folder.metrics / "run.json", _run_facts(compute, folder) | {"origin": origin})


def lower_batch(settings: Section) -> str:
    """The settings to lower after memory ran out, with their values."""
    given = settings.model_dump()
    sizes = [
        f"{settings.SECTION}.{key} (now {given[key]})"
        for key in ("micro_batch", "batch", "decode_batch")
        if key in given
    ]
    return f"out of memory: lower {' or '.join(sizes) or 'compute.threads'}, or compute.workers"


def _run_facts(compute: Compute, folder: RunFolder) -> dict[str, Any]:
    """Facts about the run for readers of the metrics: time, workers and threads, versions."""
    state = read_json(folder.root / "run.json")
    return {
        "seconds": round(state["seconds"], 2),
        "compute": compute.model_dump(mode="json"),
        "cpus": os.cpu_count(),
        "versions": dict.fromkeys(OF_RUNS, "absent") | versions(OF_RUNS),
        "adopted": state["adopted"],
    }
