"""Fingerprints of a stage's inputs: of published artifacts by their manifest, of everything else by names, sizes and times.

Only a folder that agrees byte for byte with its sealed manifest counts as an artifact; a folder with a user's own
`manifest.json`, or an artifact altered by hand, is treated as raw data.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from workspace.errors import UserError
from workspace.exact.homes import HOME, beside
from workspace.exact.manifest import (
    NAME,
    Manifest,
    kind_of,
    read_json,
    read_sealed,
    sha256_file,
    validated,
    write_json,
)
from workspace.meant import did_you_mean
from workspace.stores.addresses import is_url

CARD = "README.md"
"""A model's card, which its manifest does not list: it is prose, and no fingerprint changes with it."""
VERIFIED = Path(".runs/verified")
"""Cache of artifacts checked byte by byte: the fingerprint of their listing → their own."""
LISTING = b"# root: "
"""First characters of a listing file (`python -m shards.list`); its other lines are names below that folder, a tab, and more."""


def input_fingerprint(path: Path) -> str:
    """The fingerprint of an input, an artifact or raw data.

    Raises:
        UserError: there is nothing at `path`.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist{did_you_mean(str(path))}")
    listing = listing_fingerprint(path)
    return _artifact_fingerprint(path, listing) or listing if (path / NAME).is_file() else listing


def content_fingerprint(path: Path) -> str:
    """The fingerprint of weights that a setting names: an artifact's own, else of all bytes; a new date changes nothing.

    A missing path has one too, because the stage that reads it reports what to fetch and where to put it.
    """
    if not path.exists():
        return "missing"
    if (path / NAME).is_file() and is_published(path):
        return sha256_file(path / NAME)
    if path.is_file():
        return sha256_file(path)
    root = os.path.join(path, "")
    lines = [f"{name.removeprefix(root)}\t{sha256_file(Path(name))}" for name in _files(root)]
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()


def _artifact_fingerprint(folder: Path, listing: str) -> str | None:
    """SHA-256 of a published artifact's manifest; None if it is not an artifact or was altered."""
    known = (
        VERIFIED / hashlib.sha256(str(folder.absolute()).encode(errors="surrogateescape")).hexdigest()[:16]
    )
    with suppress(UserError):
        seen = read_json(known)
        if seen["listing"] == listing:
            return str(seen["fingerprint"])
    if not is_published(folder):
        return None
    fingerprint = sha256_file(folder / NAME)
    with suppress(OSError):  # a read-only folder is checked again next time
        write_json(known, {"listing": listing, "fingerprint": fingerprint})
    return fingerprint


def is_published(folder: Path) -> bool:
    """Whether a folder holds exactly the files of its sealed manifest, with their stated bytes; not asked of tars elsewhere."""
    try:
        kind_of(folder)
        manifest = validated(Manifest, read_sealed(folder / NAME), str(folder / NAME))
    except UserError:
        return False
    root = os.path.join(folder, "")
    near = beside(folder, manifest.kind, manifest.files)
    found = {path.removeprefix(root) for path in _files(root)} - {NAME}
    found -= {CARD, HOME} - manifest.files.keys()
    return found == near.keys() and all(
        os.stat(folder / name).st_size == entry.bytes and sha256_file(folder / name) == entry.sha256
        for name, entry in near.items()
    )


def listing_fingerprint(path: Path) -> str:
    """Fingerprint of raw data by names, sizes and modification times; no bytes are read except a listing file's.

    Args:
        path: a folder, a file, or a listing file, whose images are included.
    """
    root = os.path.join(path, "")
    names = _files(root) if path.is_dir() else _listed(path)
    lines = [f"{name.removeprefix(root)}\t{_stamp(name)}" for name in names]
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()


def _files(folder: str) -> Iterator[str]:
    """Every file below a folder, in a fixed order; links to a parent folder are not followed."""
    for place, names, files in os.walk(folder, followlinks=True):
        above = {os.path.realpath(parent) for parent in (place, *map(str, Path(place).parents))}
        names[:] = sorted(name for name in names if os.path.realpath(os.path.join(place, name)) not in above)
        yield from (os.path.join(place, name) for name in sorted(files))


def _listed(path: Path) -> Iterator[str]:
    """A file, and if it is a listing the files that it names."""
    yield str(path)
    with path.open("rb") as file:
        if file.read(len(LISTING)) != LISTING:
            return
        root = os.fsdecode(file.readline().rstrip(b"\n"))
        if is_url(root):
            return  # each line has its file's stamp
        for line in file:
            yield os.path.join(root, os.fsdecode(line.rstrip(b"\n").split(b"\t")[0]))


def _stamp(name: str) -> str:
    """A file's size and modification time; for a broken link the link's own, for a missing file a word."""
    try:
        found = os.stat(name) if os.path.exists(name) else os.lstat(name)
    except OSError:
        return "missing"
    return f"{found.st_size}\t{found.st_mtime_ns}"
