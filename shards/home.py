"""The sets of tars in a home, and which of them a manifest still names: `python -m shards.home list | clean [HOME]`.

HOME, a folder or a URL, is `shard.home` of params.yaml unless it is given. A set is named by a manifest in artifacts/ or .runs/,
or in DVC's cache, which keeps those of other commits until `dvc gc` removes them. `--keep REPOSITORY` looks in another
repository too: give each one that shares the home.

    python -m shards.home list            each set: size, tars, what names it
    python -m shards.home clean           what would be removed: sets that nothing names
    python -m shards.home clean --yes     remove it
"""

import hashlib
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from shards.images.home import set_name
from workspace.commands import parser_of
from workspace.errors import UserError, mistakes_in_one_line
from workspace.exact.manifest import NAME
from workspace.progress import say
from workspace.settings import read_tree
from workspace.stores.addresses import is_url, local_path, refuse_unwritable
from workspace.stores.opening import Entry, listed, read, remove

NAMED = (".", "artifacts/*", ".runs/shard/*/out")
"""Folders of a repository, or of an artifact, whose manifests name sets."""
SET = re.compile("[0-9a-f]{16}")
BEING_MADE_SECONDS = 86_400.0
"""Age from which a set without a manifest, or a half-written tar, is a killed process's."""


@dataclass(frozen=True)
class KeptSet:
    """A set in a home.

    Attributes:
        home: the home, a folder or a URL.
        name: of the set in it.
        tars: their number, those included that are being written.
        size: of the tars, in bytes.
        named: what names it; "" if nothing does.
    """

    home: Path | str
    name: str
    tars: int
    size: int
    named: str = ""

    def __str__(self) -> str:
        """The set's line in the list."""
        told = self.named or "nothing names it"
        return f"{self.name}  {self.tars:,} tars, {self.size / (1 << 20):,.1f} MiB  {told}"


def sets_in(home: Path | str, keep: Sequence[Path]) -> list[KeptSet]:
    """The sets of a home, sorted, each with what names it in these repositories.

    Raises:
        UserError: no such folder, or the store fails.
    """
    found = _sets_there(home) if isinstance(home, str) else _sets_here(home)
    named = {name: str(folder) for repository in keep for name, folder in _named(repository)}
    caches = [cache for repository in keep if (cache := _cache(repository)) is not None]
    return [
        replace(
            one, named=named.get(one.name) or _cached(manifest, caches) or _being_made(manifest, modified)
        )
        for one, manifest, modified in found
    ]


Found = tuple[KeptSet, bytes | None, float]
"""A set; its manifest, if it is whole; when a file of it was last written, in seconds since 1970, 0 where that is not known."""


def _sets_here(home: Path) -> Iterator[Found]:
    """The sets in a folder."""
    if not home.is_dir():
        raise UserError(f"{home} is not a folder; expected a home of tars, as shard.home names it")
    for folder in sorted(path for path in home.iterdir() if SET.fullmatch(path.name) and path.is_dir()):
        tars = [path.stat().st_size for path in folder.rglob("*.tar")]
        manifest = folder / NAME
        written = max(path.stat().st_mtime for path in (folder, *folder.rglob("*")))
        one = KeptSet(home, folder.name, len(tars), sum(tars))
        yield one, manifest.read_bytes() if manifest.is_file() else None, written


def _sets_there(home: str) -> Iterator[Found]:
    """The sets at a URL."""
    refuse_unwritable(home, "the home")
    of_sets: dict[str, dict[str, Entry]] = {}
    for path, entry in listed(home).items():
        name, _, file = path.partition("/")
        if SET.fullmatch(name) and file:
            of_sets.setdefault(name, {})[file] = entry
    for name, files in of_sets.items():
        tars = [entry.size for file, entry in files.items() if file.endswith(".tar")]
        manifest = read(f"{home}/{name}/{NAME}") if NAME in files else None
        one = KeptSet(home, name, len(tars), sum(tars))
        yield one, manifest, _written(files.values())


def _written(files: Iterable[Entry]) -> float:
    """When the newest of these files was written; 0 unless the store says it of all."""
    times = [entry.written for entry in files]
    return max(times) if all(times) else 0.0


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


def _cached(manifest: bytes | None, caches: Sequence[Path]) -> str:
    """Where DVC has the manifest of a set, as a file named by its MD5."""
    if manifest is None:
        return ""
    md5 = hashlib.md5(manifest, usedforsecurity=False).hexdigest()
    there = (cache / "files" / "md5" / md5[:2] / md5[2:] for cache in caches)
    return "another commit, in DVC's cache" if any(path.is_file() for path in there) else ""


def _being_made(manifest: bytes | None, written: float) -> str:
    """Whether a set without a manifest may be another process's work; it may where nobody knows when it was written."""
    young = not written or time.time() - written < BEING_MADE_SECONDS
    return "being made" if young and manifest is None else ""


def clean(sets: Sequence[KeptSet]) -> int:
    """Remove the sets that nothing names, and half-written tars of killed processes; returns how many sets."""
    unnamed = [one for one in sets if not one.named]
    for one in unnamed:
        # The manifest goes first: what a kill leaves is not taken for a set, and removed a day later.
        remove(f"{one.home}/{one.name}", first=NAME)
    for one in sets:
        for path in Path(one.home, one.name).rglob(".*") if one.named and isinstance(one.home, Path) else ():
            if time.time() - path.stat().st_mtime > BEING_MADE_SECONDS:
                path.unlink()
    return len(unnamed)


def main() -> None:
    """The command line."""
    parser = parser_of("shards.home", __doc__)
    parser.add_argument(
        "work", choices=("list", "clean"), help="show the sets, or those that clean would remove"
    )
    parser.add_argument("home", nargs="?", help="a folder or URL; shard.home of params.yaml unless given")
    parser.add_argument(
        "--keep",
        type=Path,
        action="append",
        default=[],
        metavar="REPOSITORY",
        help="another repository that uses the home; may be repeated",
    )
    parser.add_argument("--yes", action="store_true", help="with clean: remove them")
    asked = parser.parse_args()
    with mistakes_in_one_line():
        home = _place(asked.home or _home_of(Path("params.yaml")))
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


def _home_of(params: Path) -> str:
    """The home that a params file names; UserError if it names none."""
    home = (read_tree(params).get("shard") or {}).get("home")
    if not isinstance(home, str):
        raise UserError(
            f"{params}: shard.home is {home}; expected a folder or URL there, or on the command line"
        )
    return home


def _place(home: str) -> Path | str:
    """A home as a path, or as a URL without a slash at its end."""
    if not is_url(home):
        return Path(home)
    return local_path(home) or home.rstrip("/")


if __name__ == "__main__":
    main()
