"""Moves the tars of finished image shards to their home: see `shards.images.home`."""

from collections.abc import Sequence
from pathlib import Path

from shards.images import SPLITS, ImageShards, tar_name
from shards.images.home import set_name
from shards.making.pushing import push
from workspace.errors import UserError
from workspace.exact.homes import HOME, STREAMED
from workspace.exact.manifest import NAME, Manifest, atomic_path
from workspace.links import link_or_copy
from workspace.progress import track
from workspace.stores.addresses import is_url

MOST_TRACKED = 64 << 30
"""Bytes of tars beside a manifest from which `shard` names `shard.home`: DVC hashes them in a minute or more at each change."""


def told_to_settle(manifest: Manifest) -> str:
    """A line for sets that DVC would better not hash; "" for small ones."""
    size = sum(entry.bytes for name, entry in manifest.files.items() if name.endswith(STREAMED))
    if size <= MOST_TRACKED:
        return ""
    return (
        f"the tars have {size / (1 << 30):,.0f} GiB, which DVC hashes and caches: `shard.home: FOLDER` keeps them there, and DVC "
        "then tracks them by their manifest alone"
    )


def place(source: Path, destination: Path) -> None:
    """Put a tar there without a copy: a hard link, or, if it is a link to its home, another such link."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    if source.is_symlink():
        destination.symlink_to(source.readlink())
    else:
        link_or_copy(source, destination)


def folder_of(home: str) -> Path:
    """The folder that a home is for who writes to it: a relative one is below the working folder.

    In a copy of the repository that DVC makes inside of it (`dvc exp run --temp`) and removes, it is below the repository.
    """
    here = Path.cwd()
    return (
        here.parents[len(here.parts) - here.parts.index(".dvc") - 1] if ".dvc" in here.parts else here
    ) / home


def settle(out: Path, manifest: Manifest, home: str, work: Path) -> None:
    """Move the tars of an artifact to its home, and write down where that is.

    Where the home is on another disk the run's own copies become links to it, so that only one copy stays. Where it is a URL they
    stay, until the next run of the stage or `python -m workspace.runs drop`.

    Args:
        out: the artifact, with its manifest and its tars.
        manifest: the manifest.
        home: the setting.
        work: the folder with the run's own copies.
    """
    names = [name for name in manifest.files if name.endswith(STREAMED)]
    if is_url(home):
        push(out, manifest, home, lambda name: out / name)
        for name in names:
            (out / name).unlink()
    else:
        _settle_in(folder_of(home) / set_name(out), out, names, work, home)
    for split in {Path(name).parent for name in names}:
        (out / split).rmdir()
    (out / HOME).write_text(f"{home}\n", encoding="utf-8")


def _settle_in(folder: Path, out: Path, names: Sequence[str], work: Path, home: str) -> None:
    for name in track(names, f"to {home}", "tars"):
        _move(out / name, folder / name, work / name)
    with atomic_path(folder / NAME) as temporary:
        temporary.unlink()
        link_or_copy(out / NAME, temporary)


def _move(source: Path, target: Path, mine: Path) -> None:
    """Move one tar; a tar that is there already is replaced, because it may be damaged."""
    if not (target.exists() and source.samefile(target)):
        with atomic_path(target) as temporary:
            temporary.unlink()
            link_or_copy(source.resolve(), temporary)
    source.unlink()
    if mine.is_symlink() or not mine.samefile(target):
        with atomic_path(mine) as temporary:
            temporary.unlink()
            temporary.symlink_to(target)


def require_tars(out: Path) -> None:
    """Check that each tar of an artifact whose home is a folder is there, with its size.

    Raises:
        UserError: the first that is not.
    """
    shards = ImageShards.open(out)
    if shards.home.at is None or shards.home.is_far:
        return
    for name in (
        tar_name(split, number) for split in SPLITS for number in range(len(shards.facts.shards[split]))
    ):
        try:
            shards.home.tar(name)
        except UserError as error:
            raise UserError(f"{shards.home.at} lacks {name}") from error
