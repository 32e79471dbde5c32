"""Tars as a source: the files that a folder, glob or braces name, and their members grouped by sample.

Members with the same key form a sample. The key is the name up to its last dot, or up to the dot before if the word between
names the member's role (`0001.mask.png`). Keys may therefore contain dots (`20.05.jpg`).
"""

import bz2
import glob
import gzip
import hashlib
import itertools
import lzma
import os
import re
import shutil
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from shards.layouts.formats import PassedOver, add
from shards.layouts.listed import Location
from shards.layouts.names import hidden_part
from shards.layouts.walking import HIDDEN_FILE, hidden_folder, refuse_commands
from workspace.errors import UserError
from workspace.exact.manifest import atomic_path
from workspace.exact.tar import BROKEN, check_end, plain_members
from workspace.progress import say
from workspace.stores.cache import Wanted

BRACES = re.compile(r"\{([^{}]*)\}")
PATTERN = re.compile(r"[*?\[{]")
RANGE = re.compile(r"(\d+)\.\.(\d+)")
TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
PACKED: Mapping[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
}
"""First bytes of a compressed tar → the function that opens it."""
TORN = (OSError, EOFError, lzma.LZMAError, zlib.error)
MASK_WORDS = ("mask", "seg", "segmentation", "labelmap", "semantic", "instance", "alpha")
WORDS = frozenset({
    *MASK_WORDS, "attributes", "depth", "edge", "image", "input", "left", "right", "meta", "caption", "label",
})  # fmt: skip
"""Words that belong to the extension, not to the key."""
MOST_FILES = 1_000_000
UNPACKED = Path(".runs/unpacked")


def tars_of(source: str, pattern: str | None = None) -> list[Path]:
    """The tars that a source names, sorted: all below a folder, or all that match a glob, with or without braces.

    Args:
        source: a tar, a folder, or a glob.
        pattern: `shard.tars`, a glob that selects tars below the folder `source`.

    Raises:
        UserError: a command, braces that name a missing file, or no tars at all.
    """
    refuse_commands(source)
    if pattern is not None:
        return _matching(_below(source, pattern), f"shard.tars {pattern}")
    if not Path(source).is_dir():
        return _matching(expanded(source), f"shard.source {source}")
    found = [path for path in Path(source).rglob("*") if _is_tar(path)]
    if not found:
        raise UserError(f"shard.source {source} holds no tar ({', '.join(TARS)})")
    return sorted(found)


def _below(folder: str, pattern: str) -> list[str]:
    """A folder's pattern with its braces expanded, as globs."""
    if not Path(folder).is_dir():
        raise UserError(
            f"shard.tars is {pattern}, which chooses from a folder of tars, and shard.source {folder} is not a folder; expected "
            "shard.source: FOLDER, or shard.tars: null"
        )
    if PurePosixPath(pattern).is_absolute() or ".." in pattern.split("/"):
        raise UserError(f"shard.tars is {pattern}; expected a pattern below the folder shard.source, '*.tar'")
    return [os.path.join(glob.escape(folder), name) for name in expanded(pattern)]


def _matching(patterns: Sequence[str], what: str) -> list[Path]:
    """The files that globs match; UserError if one of them matches nothing."""
    found, missing = set[Path](), list[str]()
    for pattern in patterns:
        matches = [Path(path) for path in glob.glob(pattern, recursive=True)]
        if glob.has_magic(pattern):
            matches = [path for path in matches if _is_tar(path)]
        if not matches:
            missing.append(pattern)
        found.update(matches)
    if missing:
        more = f" (and {len(missing) - 1:,} others)" if missing[1:] else ""
        raise UserError(
            f"{what} matches no file: {missing[0]} does not exist{more}; expected a tar, a folder of tars, data/*.tar, or "
            "data/{000..099}.tar"
        )
    return sorted(found)


def _is_tar(path: Path) -> bool:
    return path.name.lower().endswith(TARS) and path.is_file()


def folder_and_pattern(source: str) -> tuple[str, str] | None:
    """`data/train/{000..099}.tar` → data/train, which DVC can watch, and {000..099}.tar; None without a pattern."""
    parts = source.split("/")
    first = next((number for number, part in enumerate(parts) if PATTERN.search(part)), None)
    if first is None or Path(source).exists():
        return None
    return "/".join(parts[:first]) or ".", "/".join(parts[first:])


def expanded(pattern: str) -> list[str]:
    """A pattern with its braces expanded: `{00..02}` and `{a,b}`."""
    parts = BRACES.split(pattern)
    choices = [[part] if place % 2 == 0 else _choices(part) for place, part in enumerate(parts)]
    made = ["".join(words) for words in itertools.islice(itertools.product(*choices), MOST_FILES + 1)]
    if len(made) > MOST_FILES:
        raise UserError(f"shard.source {pattern} names more than {MOST_FILES:,} files")
    return made


def _choices(text: str) -> list[str]:
    numbers = RANGE.fullmatch(text)
    if numbers is None:
        return text.split(",")
    first, last = map(int, numbers.groups())
    width = len(numbers[1]) if numbers[1].startswith("0") else 0
    step = 1 if first <= last else -1
    return [
        f"{number:0{width}d}" for number in itertools.islice(range(first, last + step, step), MOST_FILES + 1)
    ]


def plain_tar(path: Path, shown: str) -> Path:
    """The tar itself, or for a compressed one a copy unpacked once, whose members can be read in any order."""
    with path.open("rb") as file:
        head = file.read(6)
    unpack = next((opened for magic, opened in PACKED.items() if head.startswith(magic)), None)
    if unpack is None:
        return path
    found = path.stat()
    name = hashlib.sha256(f"{path.absolute()} {found.st_size} {found.st_mtime_ns}".encode()).hexdigest()[:16]
    made = UNPACKED / f"{name}.tar"
    if not made.is_file():
        say(f"{shown}: unpacked once to {made}, so that its images can be read in any order")
        try:
            with unpack(path, "rb") as packed, atomic_path(made) as temporary, temporary.open("wb") as file:
                shutil.copyfileobj(packed, file, 1 << 20)
        except TORN as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the disk's fault, not the tar's
            raise UserError(f"{shown} is truncated or damaged: {error}") from error
        os.utime(made, ns=(found.st_mtime_ns, found.st_mtime_ns))
    return made


def key_of(name: str) -> tuple[str, str]:
    """A member's name as key and extension; the extension is in lower case, "" if there is none."""
    folder, base = os.path.split(name)
    stem, dot, extension = base.rpartition(".")
    if not dot or not stem:
        return name, ""
    before, dot, word = stem.rpartition(".")
    if dot and before and word.lower() in WORDS:
        stem, extension = before, f"{word}.{extension}"
    return os.path.join(folder, stem), extension.lower()


def tar_samples(
    path: Path, passed_over: PassedOver | None = None, wanted: Wanted | None = None
) -> dict[str, dict[str, Location]]:
    """Key → extension → location of its bytes.

    Args:
        path: the tar.
        passed_over: counts hidden and system files.
        wanted: where it was fetched from, if `path` is its copy in the cache.

    Raises:
        UserError: the tar is damaged, or a member appears twice.
    """
    samples: dict[str, dict[str, Location]] = {}
    for name, location in members(path, wanted):
        if hidden := hidden_part(name.removeprefix("./")):
            if passed_over is not None:
                add(passed_over, HIDDEN_FILE if name.endswith(hidden) else hidden_folder(hidden))
            continue
        key, extension = key_of(name)
        found = samples.setdefault(key, {})
        if extension in found:
            where = path if wanted is None else wanted.url
            raise UserError(f"{where}: the member {name!r} appears twice: one of them would be lost")
        found[extension] = location
    return samples


def members(path: Path, wanted: Wanted | None = None) -> Iterator[tuple[str, Location]]:
    """Every plain file of a tar, by name; one whose tar was fetched has its URL too, unless it had to be unpacked."""
    shown = str(path) if wanted is None else wanted.url
    plain, count = plain_tar(path, shown), 0
    url, stamp = ("", "") if wanted is None else (wanted.url if plain == path else "", wanted.stamp)
    try:
        with tarfile.open(plain, "r:") as tar:
            for info in plain_members(tar, shown):
                yield info.name, Location(str(plain), info.offset_data, info.size, url=url, stamp=stamp)
                count += 1
            check_end(tar, shown, f"after {count:,} members")
    except BROKEN as error:
        raise UserError(f"{shown} is not a plain tar: {error}") from error
