"""Where a stage's results may go: looked at before any work, because what is there is replaced as a whole."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

from workflow.command_line import option_of
from workspace.errors import UserError
from workspace.exact.manifest import NAME, PRODUCER, address_of, kind_of

FACTS = "run.json"
"""A file of every folder of numbers that a stage published."""


def check_places(
    name: str, out: Path, metrics: Path | None, inputs: Mapping[str, Path], usual: Mapping[str, Path]
) -> None:
    """Refuse to replace what is not an earlier result of the stage.

    Args:
        name: of the stage.
        out: where its artifact goes.
        metrics: where its numbers go, or None.
        inputs: name → the artifact that it reads.
        usual: name → path in dvc.yaml; what is there is the workflow's.

    Raises:
        UserError: another program's files are there, or another stage's artifact, or an input, or nothing can be written.
    """
    if out != usual.get("out"):
        _check_folder("--out", out)
        _check_artifact(name, out)
    if metrics is not None and metrics != usual.get("metrics"):
        _check_folder("--metrics", metrics)
        if _some_file(metrics) and not (metrics / FACTS).is_file():
            raise UserError(_foreign("--metrics", metrics, f"folder of numbers of {name}"))
    if metrics is not None and metrics.resolve() in (out.resolve(), *out.resolve().parents):
        raise UserError(
            f"--metrics {metrics} contains --out {out}, and would replace it; expected a folder of its own"
        )
    for key, path in inputs.items():
        if path.resolve() in out.resolve().parents:
            raise UserError(
                f"--out {out} is inside {option_of(key)} {path}, which is read; expected a folder outside of it"
            )


def _check_folder(option: str, path: Path) -> None:
    """UserError if a folder cannot be put at a path."""
    if path.exists() and not path.is_dir():
        raise UserError(f"{option} {path} is a file; expected a folder, which is made")
    if path.resolve() in (Path.cwd(), *Path.cwd().parents):
        raise UserError(
            f"{option} {path} contains the working folder, and is replaced as a whole; expected a folder of its own"
        )
    if path.is_mount():
        raise UserError(
            f"{option} {path} is a mount point, which cannot be replaced; expected a folder in it: {path}/NAME"
        )
    above = next(folder for folder in path.absolute().parents if folder.exists())
    try:
        tempfile.TemporaryDirectory(dir=above, prefix=f".{path.name[:80]}.").cleanup()
    except OSError as error:
        raise UserError(f"{option} {path}: nothing can be written to {above} ({error.strerror})") from error


def _check_artifact(name: str, out: Path) -> None:
    """UserError if a folder holds anything but an earlier result of the stage."""
    if (out / NAME).is_file():
        kind = kind_of(out)
        if PRODUCER[kind] != address_of(name):
            raise UserError(
                f"--out {out} holds {kind}, which {name} does not make, and would be replaced; expected a new folder"
            )
    elif _some_file(out):
        raise UserError(_foreign("--out", out, f"result of {name}"))


def _foreign(option: str, path: Path, wanted: str) -> str:
    return (
        f"{option} {path} holds other files ({_some_file(path)}), and is replaced as a whole; expected a new folder, "
        f"or an earlier {wanted}"
    )


def _some_file(folder: Path) -> str:
    """The name of something in a folder; "" if it is empty or not there."""
    return min((path.name for path in folder.iterdir()), default="") if folder.is_dir() else ""
