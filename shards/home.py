"""The sets of tars in a home, and which of them a manifest still names: `python -m shards.home list | clean [HOME]`.

HOME is `shard.home` of params.yaml unless it is given. A set is named by a manifest in artifacts/ or .runs/, or in DVC's cache,
which keeps those of other commits until `dvc gc` removes them. `--keep REPOSITORY` looks in another repository too: give each
one that shares the home.

    python -m shards.home list            each set: size, tars, what names it
    python -m shards.home clean           what would be removed: sets that nothing names
    python -m shards.home clean --yes     remove it
"""

import argparse
import hashlib
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from shards.images.home import set_name
from workspace.errors import UserError, mistakes_in_one_line
from workspace.exact.manifest import NAME
from workspace.progress import say
from workspace.settings import read_tree

NAMED = (".", "artifacts/*", ".runs/shard/*/out")
"""Folders of a repository, or of an artifact, whose manifests name sets."""
SET = re.compile("[0-9a-f]{16}")
BEING_MADE_SECONDS = 86_400.0
"""Age from which a set without a manifest, or a half-written tar, is a killed process's."""


@dataclass(frozen=True)
class KeptSet:
    """A set in a home.

    Attributes:
        folder: its tars.
        named: what names it; "" if nothing does.
    """

    folder: Path
    named: str

    @property
    def tars(self) -> list[Path]:
        """Its tars, those included that are being written."""
        return sorted(self.folder.rglob("*.tar"))

    def __str__(self) -> str:
        """The set's line in the list."""
        tars = self.tars
        size = sum(path.stat().st_size for path in tars) / (1 << 20)
        return f"{self.folder.name}  {len(tars):,} tars, {size:,.1f} MiB  {self.named or 'nothing names it'}"


def sets_in(home: Path, keep: Sequence[Path]) -> list[KeptSet]:
    """The sets of a home, sorted, each with what names it in these repositories.

    Raises:
        UserError: no such folder.
    """
    if not home.is_dir():
        raise UserError(
            f"{home} is not a folder; expected a home of tars, as shard.home names it (a home at a URL: by the store's own tools)"
        )
    named = {name: str(folder) for repository in keep for name, folder in _named(repository)}
    caches = [cache for repository in keep if (cache := _cache(repository)) is not None]
    found = []
    for folder in sorted(path for path in home.iterdir() if SET.fullmatch(path.name) and path.is_dir()):
        told = named.get(folder.name) or _cached(folder, caches) or _being_made(folder)
        found.append(KeptSet(folder, told))
    return found


def _named(repository: Path) -> Iterator[tuple[str, Path]]:
    """The sets that a repository's artifacts and runs name, and where."""
    for pattern in NAMED:
        for manifest in sorted(repository.glob(f"{pattern}/{NAME}")):
            yield set_name(manifest.parent), manifest.parent


def _cache(repository: Path) -> Path | None:
    """The folder of DVC's cache; None outside a DVC repository, or without DVC."""
    command = [sys.executable, "-m", "dvc", "cache", "dir"]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    return Path(repository, done.stdout.strip()) if done.returncode == 0 and done.stdout.strip() else None


def _cached(folder: Path, caches: Sequence[Path]) -> str:
    """Where DVC has the manifest of a set, as a file named by its MD5."""
    manifest = folder / NAME
    if not manifest.is_file():
        return ""
    md5 = hashlib.md5(manifest.read_bytes(), usedforsecurity=False).hexdigest()
    there = (cache / "files" / "md5" / md5[:2] / md5[2:] for cache in caches)
    return "another commit, in DVC's cache" if any(path.is_file() for path in there) else ""


def _being_made(folder: Path) -> str:
    """Whether a set without a manifest may be another process's work."""
    young = (
        time.time() - max(path.stat().st_mtime for path in (folder, *folder.rglob("*"))) < BEING_MADE_SECONDS
    )
    return "being made" if young and not (folder / NAME).is_file() else ""


def clean(sets: Sequence[KeptSet]) -> int:
    """Remove the sets that nothing names, and half-written tars of killed processes; returns how many sets."""
    unnamed = [one for one in sets if not one.named]
    for one in unnamed:
        going = one.folder.with_name(f".{one.folder.name}.removed")
        one.folder.rename(going)  # first, so that a kill leaves no set with some of its tars
        shutil.rmtree(going)
    for one in sets:
        for path in one.folder.rglob(".*") if one.named else ():
            if time.time() - path.stat().st_mtime > BEING_MADE_SECONDS:
                path.unlink()
    return len(unnamed)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m shards.home",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("work", choices=("list", "clean"))
    parser.add_argument("home", type=Path, nargs="?", help="the home; shard.home of params.yaml unless given")
    parser.add_argument(
        "--keep", type=Path, action="append", default=[], metavar="REPOSITORY", help="look there too"
    )
    parser.add_argument("--yes", action="store_true", help="with clean: remove")
    asked = parser.parse_args()
    with mistakes_in_one_line():
        home = asked.home or _home_of(Path("params.yaml"))
        sets = sets_in(home, [Path(), *asked.keep])
        shown = sets if asked.work == "list" else [one for one in sets if not one.named]
        for one in shown:
            say(str(one))
        if asked.work == "list" or not asked.yes:
            more = "; `--yes` removes them" if asked.work == "clean" and shown else ""
            say(
                f"{home}: {len(sets):,} sets, {sum(not one.named for one in sets):,} of them named by nothing{more}"
            )
        else:
            say(f"{home}: removed {clean(sets):,} of {len(sets):,} sets")


def _home_of(params: Path) -> Path:
    """The home that a params file names; UserError if it names none."""
    home = (read_tree(params).get("shard") or {}).get("home")
    if not isinstance(home, str):
        raise UserError(f"{params}: shard.home is {home}; expected a folder there, or on the command line")
    return Path(home)


if __name__ == "__main__":
    main()
