"""Run folders, in which stages work, so that a kill loses nothing and half-written results never look complete.

A stage works in `.runs/<stage>/<fingerprint>/`, never in its outputs, which DVC removes before the stage starts. The
fingerprint covers the effective settings, the inputs and the stage's code. When the stage is done, its result is linked or
copied beside the outputs and renamed into place atomically (docs/artifacts.md).

    python -m workspace.runs list            every run: stage, fingerprint, state, progress, size, age
    python -m workspace.runs drop RUN …      forget runs (before a forced recomputation)
    python -m workspace.runs drop --failed   forget every run in which nothing is finished yet; --unfinished, --all,
                                             each with --older DAYS
    python -m workspace.runs adopt RUN       continue a run with the current params and code
"""

import errno
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from workspace.errors import UserError
from workspace.exact.manifest import (
    NAME,
    canonical_json,
    kind_of,
    read_json,
    read_manifest,
    verify_files,
    write_json,
)
from workspace.links import link_or_copy
from workspace.progress import say
from workspace.stores.opening import StoreError
from workspace.stores.opening import remove as remove_url

RUNS = Path(".runs")
LINES = "lines.json"
"""File in a run's folder with the lines to print after its result is published."""
REGROUP = "regroup"
"""A file in a training's `work`: the group ends after its next checkpoint, so that more workers may continue from there."""
STATE = "state.json"
"""The file that makes a folder a checkpoint: written last, removed first."""


@dataclass(frozen=True)
class Identity:
    """Everything that determines a stage's result: effective settings, fingerprints of inputs, checksums of code."""

    settings: Mapping[str, Any]
    inputs: Mapping[str, str]
    code: Mapping[str, str]

    @property
    def fingerprint(self) -> str:
        """The first 16 hex digits of a SHA-256 of all three."""
        return hashlib.sha256(canonical_json(asdict(self)).encode()).hexdigest()[:16]

    def differences(self, other: "Identity") -> list[str]:
        """Names of the settings, inputs and code files that differ."""
        found = []
        for part in ("settings", "inputs", "code"):
            mine, others = getattr(self, part), getattr(other, part)
            names = sorted(mine.keys() | others.keys())
            found += [f"{part}: {name}" for name in names if mine.get(name) != others.get(name)]
        return found


@dataclass(frozen=True)
class RunFolder:
    """One run of one stage.

    Attributes:
        root: `.runs/<stage>/<fingerprint>`.
    """

    root: Path

    @property
    def out(self) -> Path:
        """Folder in which the stage builds its artifact, manifest last."""
        return self.root / "out"

    @property
    def metrics(self) -> Path:
        """Folder for numbers, curves and pictures, published to `metrics/<stage>/`."""
        return self.root / "metrics"

    @property
    def work(self) -> Path:
        """Private files that survive a kill: checkpoints, finished shards."""
        return self.root / "work"

    @property
    def progress_file(self) -> Path:
        """The file that a dashboard reads while the stage runs."""
        return self.root / "progress.json"

    @property
    def done(self) -> bool:
        """Whether the stage has finished here."""
        return (self.root / "done.json").is_file()

    @property
    def empty(self) -> bool:
        """Whether there is neither a checkpoint nor a shard yet, so that forgetting the run costs nothing."""
        made = (self.out / NAME).is_file() or any(path.is_file() for path in self.work.rglob("*"))
        return not self.done and not made

    @property
    def touched(self) -> float:
        """Time of the last write here, in seconds since 1970; ignores files that other processes are removing."""
        times = [self.root.stat().st_mtime]
        for folder, _, names in os.walk(self.root):
            for name in names:
                with suppress(FileNotFoundError):
                    times.append(os.lstat(os.path.join(folder, name)).st_mtime)
        return max(times)

    def state(self) -> dict[str, Any]:
        """The content of `run.json`: identity, seconds so far, earlier identities."""
        value: dict[str, Any] = read_json(self.root / "run.json")
        return value

    def mirror(self, base: str | None) -> str | None:
        """The URL below `base` that the run's checkpoints are copied to; stored once chosen, so that adoption keeps it."""
        if base is None:
            return None
        state = self.state()
        url = state.get("mirror", f"{base.rstrip('/')}/{self.root.parent.name}/{self.root.name}")
        write_json(self.root / "run.json", state | {"mirror": url})
        return str(url)

    def say_when_published(self, text: str) -> None:
        """Store a line to print after publishing, with the result's path for `{out}`; the run may no longer exist then."""
        write_json(self.root / LINES, [*self.lines(), text])

    def lines(self, out: Path | None = None) -> list[str]:
        """The stored lines, with the result's path filled in."""
        path = self.root / LINES
        found: list[str] = read_json(path) if path.is_file() else []
        return [line.replace("{out}", str(out)) if out else line for line in found]

    def forget(self) -> None:
        """Remove the run, and its checkpoints elsewhere."""
        self._forget_mirror()
        going = self.root.with_name(f".{self.root.name}.{os.getpid()}.{time.monotonic_ns()}")
        self.root.rename(going)  # atomic, even if another process opens it meanwhile
        remove(going)

    def _forget_mirror(self) -> None:
        url = self.state().get("mirror") if (self.root / "run.json").is_file() else None
        if url is not None:
            try:
                remove_url(url, first=STATE)  # so that no part looks like a whole checkpoint
            except StoreError as error:
                # perhaps of an older run, with other credentials: no reason to stop this one
                say(f"the checkpoints at {url} stay there: {error}")

    def earlier(self) -> list["RunFolder"]:
        """Finished runs of the same stage with the same code, newest first, whose results may be reused."""
        if not (self.root / "run.json").is_file():  # a run by hand, outside `.runs`
            return []
        others = [RunFolder(path) for path in self.root.parent.glob("[!.]*") if path != self.root]
        code = self.state()["identity"]["code"]
        same = [other for other in others if other.done and other.state()["identity"]["code"] == code]
        return sorted(same, key=lambda other: (other.root / "done.json").stat().st_mtime_ns, reverse=True)

    def clear(self) -> None:
        """Forget the work done here, also checkpoints elsewhere; the run itself and its lock remain."""
        self._forget_mirror()
        going = [self.work, self.out, self.metrics]
        # `sweep` removes it if this process is killed
        aside = [path.with_name(f".{path.name}.{os.getpid()}") for path in going]
        self.work.rename(aside[0])  # before the done mark, because an unfinished run would resume from it
        (self.root / "done.json").unlink()
        for path, old in zip(going, aside, strict=True):
            if path.exists():
                path.rename(old)
            shutil.rmtree(old)
            path.mkdir()
        self.progress_file.unlink(missing_ok=True)
        write_json(self.root / "run.json", self.state() | {"seconds": 0.0, "adopted": []})

    def sweep(self) -> None:
        """Remove half-written files of a killed process: all names that start with a dot."""
        for folder, names, files in os.walk(self.root):
            for name in [name for name in names if name.startswith(".")]:
                shutil.rmtree(Path(folder, name))
                names.remove(name)
            for name in files:
                if name.startswith("."):
                    Path(folder, name).unlink(missing_ok=True)

    def add_seconds(self, seconds: float) -> None:
        """Add the time of one attempt to the run's total."""
        state = self.state()
        write_json(self.root / "run.json", state | {"seconds": state["seconds"] + seconds})


def remove(path: Path) -> None:
    """Remove a folder that other processes may also be removing, or in which they may be creating a lock."""
    while path.exists():
        try:
            shutil.rmtree(path)
        except FileNotFoundError:
            pass  # another process was faster
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise


def publish(source: Path, destination: Path, link: bool) -> None:
    """Publish a finished folder at `destination` atomically; the source is kept.

    Args:
        source: a folder.
        destination: replaced if it is there.
        link: use hard links if the file system can; else copy.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{destination.name}.publishing-"
    for torn in destination.parent.glob(f"{prefix}*"):  # left by a killed process
        shutil.rmtree(torn)
    beside = Path(tempfile.mkdtemp(dir=destination.parent, prefix=prefix))
    try:
        whole = beside / "whole"
        shutil.copytree(source, whole, copy_function=link_or_copy if link else shutil.copyfile)
        if destination.is_dir():
            destination.rename(beside / "old")
        whole.rename(destination)
    finally:
        if (beside / "old").is_dir() and not destination.exists():
            (beside / "old").rename(destination)
        shutil.rmtree(beside)


def nothing_more(out: Path) -> None:
    """All of an artifact is in its folder."""


def mend(folder: RunFolder, elsewhere: Callable[[Path], None] = nothing_more) -> str:
    """Check each byte of a finished run's artifact; forget a changed one, so that the stage makes it again.

    The artifact in the workspace shares its files, and their damage, with the run by hard links. Intact checkpoints and
    shards are kept.

    Args:
        folder: the run.
        elsewhere: raises a UserError if files of the artifact that are elsewhere are missing.

    Returns:
        The damage, or "".
    """
    if not (folder.out / NAME).is_file():
        return ""  # a stage without an artifact, only numbers
    try:
        manifest = read_manifest(folder.out, kind_of(folder.out))
        verify_files(folder.out, manifest)
        elsewhere(folder.out)
    except UserError as error:
        shared = {path.stat().st_ino for path in folder.out.rglob("*") if path.is_file()}
        for path in folder.work.rglob("*"):
            if path.is_file() and path.stat().st_ino in shared:
                path.unlink()
        (folder.root / "done.json").unlink()
        return str(error)
    return ""


def adopt(folder: RunFolder, identity: Identity) -> RunFolder:
    """Continue a run, finished or not, under another identity; both fingerprints are recorded.

    Raises:
        UserError: a run with that identity exists already.
    """
    target = RunFolder(folder.root.parent / identity.fingerprint)
    if target.root != folder.root and target.root.exists():
        raise UserError(
            f"{target.root} exists already: drop it first with `python -m workspace.runs drop {target.root.name}`"
        )
    state = folder.state()
    (folder.root / "done.json").unlink(missing_ok=True)
    adopted = [*state["adopted"], folder.root.name]
    write_json(folder.root / "run.json", state | {"identity": asdict(identity), "adopted": adopted})
    folder.root.rename(target.root)
    return target


def mark_done(folder: RunFolder) -> None:
    """Mark the stage as finished here."""
    write_json(folder.root / "done.json", {"finished": time.strftime("%Y-%m-%dT%H:%M:%S%z")})


if __name__ == "__main__":
    from workflow.runs_command import main

    main()
