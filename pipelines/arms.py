"""The arms of a sweep: each one's settings and workspace, and the stages that several of them share.

An arm's workspace is a clone of this one in `.runs/sweep/NAME`, with its current files, on the same DVC cache, so that DVC links
existing results and takes other arms' results from its run cache. It is kept, so that a stopped arm continues from its last
checkpoint when the same sweep is started again.
"""

import hashlib
import itertools
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dvc.repo import Repo

from pipelines.dag import Step
from pipelines.errors import RefusedError
from pipelines.home import BIN
from pipelines.params import parse, set_params, split

SWEEPS = Path(".runs/sweep")


@dataclass(frozen=True)
class Arm:
    """One arm.

    Attributes:
        settings: its own settings, `section.key=value`.
        common: settings of all arms.
    """

    settings: tuple[str, ...]
    common: tuple[str, ...]

    @property
    def name(self) -> str:
        """Its settings, with the last part of each key: `width=64, steps=200`."""
        parts = [(*split(text),) for text in self.settings]
        return ", ".join(f"{key.split('.')[-1]}={value}" for key, value in parts) or "as params.yaml is"

    @property
    def changes(self) -> tuple[str, ...]:
        """All settings to write into its params.yaml."""
        return self.common + self.settings

    def folder(self, root: Path) -> Path:
        """Its workspace."""
        slug = re.sub(r"[^A-Za-z0-9.=-]+", "-", self.name)[:60].strip("-")
        mark = hashlib.sha256("\n".join(sorted(self.changes)).encode()).hexdigest()[:8]
        return root / SWEEPS / f"{slug}-{mark}"


def arms_of(grid: Sequence[str], arms: Sequence[str], common: Sequence[str]) -> list[Arm]:
    """Every combination of the grid's values with every arm of the list.

    Args:
        grid: axes, `key=value,value,…`.
        arms: the settings of one arm each, separated by blanks and quoted as in a shell.
        common: settings of all arms.

    Raises:
        RefusedError: no arms, the same one twice, or a text that is not a setting.
    """
    axes = [[f"{key}={value}" for value in _values(text)] for key, text in map(split, grid)]
    listed = [tuple(shlex.split(text)) for text in arms] or [()]
    made = [
        Arm((*chosen, *own), tuple(common)) for own in listed for chosen in itertools.product(*axes)
    ]  # fmt: skip
    for arm in made:
        for text in arm.changes:
            split(text)
    if not grid and not arms:
        raise RefusedError("a sweep needs a grid (`stackformer.model.width=64,128`) or a list of arms")
    twice = [arm.name for arm in made if made.count(arm) > 1]
    if twice:
        raise RefusedError(f"the arm {twice[0]} appears twice")
    return made


def _values(text: str) -> list[str]:
    """`a,[1, 2],b` → its three values as text; commas inside brackets and quotes do not separate values."""
    parts = re.findall(r"(?:\[[^\]]*\]|\{[^}]*\}|\"[^\"]*\"|'[^']*'|[^,\[{\"'])+", text)
    if not parts or len(parts) != len(parse(f"[{text}]")):
        raise RefusedError(f"the grid's values {text} cannot be distinguished; expected value,value,…")
    return [part.strip() for part in parts]


def touched(steps: Sequence[Step], arm: Arm) -> dict[str, tuple[str, ...]]:
    """Each stage's address → the arm's settings that the stage or its dependencies read."""
    found: dict[str, tuple[str, ...]] = {}
    for step in steps:
        own = {text for text in arm.changes if split(text)[0].split(".")[0] in step.sections}
        above = {text for address in step.needs for text in found[address]}
        found[step.address] = tuple(sorted(own | above))
    return found


def needed_here(steps: Sequence[Step], arms: Sequence[Arm]) -> list[Step]:
    """The stages that some arm needs without any change: they run once, in this workspace, before the arms."""
    by_arm = [touched(steps, arm) for arm in arms]
    return [step for step in steps if any(not found[step.address] for found in by_arm)]


def prepare(arm: Arm, root: Path) -> Path:
    """Create or refresh an arm's workspace: code and params as here, plus the arm's settings; `bring_inputs` adds artifacts.

    Raises:
        RefusedError: a setting that params.yaml does not have, or git or DVC fails.
    """
    folder = arm.folder(root)
    if not (folder / ".git").is_dir():
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        _run(root, "git", "clone", "--quiet", "--shared", "--no-checkout", str(root.resolve()), str(folder))
        _run(folder, "git", "reset", "--quiet")
    _copy_files(root, folder)
    _link_ignored(root, folder)
    _share_cache(root, folder)
    set_params(folder, arm.changes)
    return folder


def bring_inputs(
    steps: Sequence[Step], decided: Mapping[str, tuple[str, ...]], root: Path, folder: Path
) -> None:
    """Bring the outputs of unaffected stages that an arm's stages read: linked from the cache, or copied from `root`.

    Raises:
        RefusedError: DVC fails.
    """
    needed = {address for step in steps if decided[step.address] for address in step.needs}
    inputs = [step for step in steps if step.address in needed and not decided[step.address]]
    cached = [str(out) for step in inputs for out in step.outs if out not in step.uncached]
    if cached:
        _run(folder, str(BIN / "dvc"), "checkout", "--quiet", "--force", *cached)
    for out in (out for step in inputs for out in step.uncached):
        if not (folder / out).exists():
            shutil.copytree(root / out, folder / out)


def remember(step: Step, folder: Path) -> None:
    """Save a finished stage to DVC's run cache, because `dvc repro` does not if an output is `cache: false`.

    Raises:
        RefusedError: DVC fails.
    """
    _run(folder, str(BIN / "dvc"), "commit", "--quiet", "--force", step.address)


def _run(place: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = " ".join(done.stderr.split())
        raise RefusedError(f"{' '.join(command[:2])} in {place} failed: {reason}")
    return done.stdout


def _copy_files(root: Path, folder: Path) -> None:
    """Copy every tracked or untracked file that git does not ignore from `root`; remove files that no longer exist there."""
    here = _listed(root, "--cached", "--others", "--exclude-standard")
    for name in _listed(folder, "--cached", "--others", "--exclude-standard") - here:
        (folder / name).unlink(missing_ok=True)
    for name in sorted(here):
        source, target = root / name, folder / name
        if not source.is_file():
            target.unlink(missing_ok=True)
        elif not target.is_file() or target.read_bytes() != source.read_bytes():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)


def _listed(place: Path, *options: str) -> set[str]:
    names = _run(place, "git", "ls-files", "-z", *options).split("\0")
    return {name for name in names if name and not name.startswith(".runs/")}


NOT_LINKED = re.compile(r"\..*|__pycache__|.*\.egg-info|artifacts|metrics")


def _link_ignored(root: Path, folder: Path) -> None:
    """Link top-level paths that git ignores and no stage writes (data, weights)."""
    for name in _listed(root, "--others", "--ignored", "--exclude-standard", "--directory"):
        top = name.rstrip("/")
        if "/" not in top and not NOT_LINKED.fullmatch(top) and not (folder / top).exists():
            (folder / top).symlink_to((root / top).resolve())


def _share_cache(root: Path, folder: Path) -> None:
    """Make the arm's DVC use the workspace's cache, with read-only links if the file system can."""
    with Repo(str(root)) as repo:
        cache = repo.cache.local_cache_dir
    text = f'[cache]\n    dir = {cache}\n    type = "reflink,hardlink,copy"\n'
    (folder / ".dvc" / "config.local").write_text(text, encoding="utf-8")
