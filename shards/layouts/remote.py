"""A source at a URL: an object store's folder, or files that a URL names; listed once, read where they are.

A folder of images is read image by image. Tars, a zip and a list of paths are fetched whole into the cache; a member whose tar
has left the cache is read by range. A web server cannot list: there one file is named, or several by a range, `{0000..0063}.tar`.

`python -m shards.list URL --out LISTING` writes such a listing to a file, which DVC can watch and `shard.source` can name.
"""

import fnmatch
import hashlib
import posixpath
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from shards.layouts.formats import PassedOver
from shards.layouts.listed import Location
from shards.layouts.path_list import is_path, paths_of
from shards.layouts.tables import SUFFIXES, read_table
from shards.layouts.tars import TARS, expanded, tar_samples
from shards.layouts.walking import ROOT, Files, check_inside, sorted_by_kind
from shards.layouts.zipped import files_of_zip
from workspace.errors import UserError
from workspace.progress import track
from workspace.stores.addresses import WEB, is_url, local_path, refuse_wrong, scheme_of
from workspace.stores.cache import Cache, Wanted
from workspace.stores.opening import Entry, StoreError, entry_of, listed, matching

WHAT = "shard.source"
ASKERS = 16
"""Number of threads that ask for the sizes of files named one by one; they wait for the server."""


@dataclass(frozen=True)
class Remote:
    """A listed source at a URL.

    Attributes:
        root: URL of the folder, without a slash at its end.
        files: name relative to it → its size and stamp, sorted.
        whole: whether the folder was listed, all that is in it; else files were named.
        query: what follows each name in its URL.
    """

    root: str
    files: Mapping[str, Entry]
    whole: bool
    query: str = ""

    def url(self, name: str) -> str:
        """The URL of a file."""
        return f"{self.root}/{name}{self.query}"

    def location(self, name: str) -> Location:
        """Where the bytes of a file are."""
        entry = self.files[name]
        return Location("", 0, entry.size, url=self.url(name), stamp=entry.stamp)

    def wanted(self, name: str) -> Wanted:
        """A file, for the cache."""
        entry = self.files[name]
        return Wanted(self.url(name), entry.size, stamp=entry.stamp)

    @property
    def only(self) -> str | None:
        """The name of the one file that the URL named."""
        return None if self.whole or len(self.files) > 1 else next(iter(self.files))

    @property
    def are_tars(self) -> bool:
        """Whether it is tars, and nothing else to read."""
        return any(map(is_tar, self.files)) and not sorted_by_kind(self.root, self.files).names

    def tars(self, pattern: str | None = None) -> list[str]:
        """Names of its tars; those below the folder that match, where there is a pattern; UserError if there are none."""
        found = [name for name in self.files if is_tar(name)]
        for part in [] if pattern is None else expanded(pattern):
            if not any(_fits(name, part) for name in found):
                raise UserError(f"shard.tars {pattern} matches no file: {self.root} has no {part}")
        if pattern is not None:
            found = [name for name in found if any(_fits(name, part) for part in expanded(pattern))]
        if not found:
            raise UserError(f"{WHAT} {self.root} holds no tar ({', '.join(TARS)})")
        return found

    @property
    def fingerprint(self) -> str:
        """SHA-256 of names, sizes and stamps."""
        lines = [f"{name}\t{entry.size}\t{entry.stamp}\n" for name, entry in self.files.items()]
        return hashlib.sha256("".join([self.root, "\n", *lines]).encode(errors="surrogateescape")).hexdigest()


def is_tar(name: str) -> bool:
    """By its name."""
    return name.lower().endswith(TARS)


def _fits(name: str, pattern: str) -> bool:
    deep = "**" in pattern or name.count("/") == pattern.count("/")
    return deep and fnmatch.fnmatchcase(name, pattern)


def at_home(source: str) -> str:
    """The path of a file:// URL; other sources as they are."""
    path = local_path(source)
    return source if path is None else str(path)


def listing_for(url: str) -> str:
    """Where the listing of a URL goes, for commands that name it (DVC watches files): its end, and a hash of all of it."""
    end = re.sub("[^A-Za-z0-9]+", "-", url.partition("://")[2]).strip("-")[-60:]
    return f"data/{end}-{hashlib.sha256(url.encode(errors='surrogateescape')).hexdigest()[:8]}.listing"


def remote_of(source: str) -> Remote | None:
    """The files of a URL, or of a listing of one; None where the source is a path. A URL is listed once in a process.

    Raises:
        UserError: a wrong URL, nothing is there, or the store fails.
    """
    if is_url(source) and local_path(source) is None:
        refuse_wrong(source, WHAT)
        return _listed(source)
    path = Path(source)
    if not path.is_file():
        return None
    with path.open("rb") as file:
        head = file.readline(1 << 16).decode(errors="surrogateescape")
    root = head.removeprefix(ROOT).rstrip("\n")
    return _of_listing(path, root) if head.startswith(ROOT) and is_url(root) else None


def fingerprints(source: str) -> dict[str, str]:
    """What a run's identity says of a source at a URL, looked at now; empty for others."""
    _listed.cache_clear()
    remote = remote_of(source) if is_url(source) and local_path(source) is None else None
    return {} if remote is None else {f"source {source}": remote.fingerprint}


@lru_cache(maxsize=4)
def _listed(source: str) -> Remote:
    web = scheme_of(source) in WEB
    if any(sign in source for sign in _signs(source)):
        return _named(_matches(source))
    query = source.partition("?")[2].partition("#")[0] if web else ""
    plain = source.partition("?")[0] if web else source
    found = listed(source)
    if "" not in found:
        return Remote(plain.rstrip("/"), found, whole=True)
    folder, _, name = plain.rpartition("/")
    if web and (not name or folder.endswith(":/")):
        raise StoreError(_no_folders(source))
    return Remote(folder, {name: found[""]}, whole=False, query=f"?{query}" if query else "")


def _no_folders(url: str) -> str:
    return (
        f"{WHAT} {url}: a web server cannot list a folder; expected a list of paths (PATHS.txt, a CSV) or a zip there, or tars, "
        "one or a range: https://HOST/{0000..0063}.tar"
    )


def _signs(url: str) -> str:
    """The signs of a pattern in a URL; `?` begins a web address's query, and `[` is part of one."""
    return "*{" if scheme_of(url) in WEB else "*?[{"


def _matches(source: str) -> list[str]:
    """The URLs that braces and globs name."""
    found: list[str] = []
    for url in expanded(source):
        some = matching(url) if any(sign in url for sign in _signs(url)) else [url]
        if not some:
            raise UserError(f"{WHAT} {source} matches no file: there is no {url}")
        found += some
    return sorted(dict.fromkeys(found))


def _named(urls: Sequence[str]) -> Remote:
    """Files that are named one by one, below the folder that they have in common."""
    folders = [url.rpartition("/")[0] for url in urls]
    root = folders[0] if len(set(folders)) == 1 else _common(folders)
    with ThreadPoolExecutor(ASKERS) as pool:
        entries = list(pool.map(entry_of, urls))
    names = [url.removeprefix(root).lstrip("/") for url in urls]
    return Remote(root, dict(sorted(zip(names, entries, strict=True))), whole=False)


def _common(folders: Sequence[str]) -> str:
    scheme = folders[0].partition("://")[0]
    return f"{scheme}://{posixpath.commonpath([folder.partition('://')[2] for folder in folders])}"


def _of_listing(path: Path, root: str) -> Remote:
    """The files that a listing by `python -m shards.list URL` names."""
    refuse_wrong(root, str(path))
    files = {}
    lines = path.read_text(encoding="utf-8", errors="surrogateescape").removesuffix("\n").split("\n")[1:]
    for line in lines:
        name, _, facts = line.partition("\t")
        size, _, stamp = facts.partition("\t")
        check_inside(name, str(path))
        if not size.isdecimal():
            again = f"make it with `python -m shards.list {root} --out {path}`"
            raise UserError(f"{path}: {line[:80]!r} is not a name, a size and a stamp; {again}")
        files[name] = Entry(int(size), stamp)
    return Remote(root, files, whole=True)


def files_of_remote(remote: Remote, cache: Cache) -> Files:
    """The files of a folder, a zip or a list of paths at a URL, by name.

    Raises:
        UserError: it is one file of another kind.
    """
    name = remote.only
    if name is None:
        return sorted_by_kind(
            remote.root, remote.files, {name: remote.location(name) for name in remote.files}
        )
    url = remote.url(name)
    if name.lower().endswith(".zip"):
        wanted = remote.wanted(name)
        with cache.held(wanted):
            return files_of_zip(cache.path_of(wanted), wanted)
    if is_tar(name):
        raise UserError(f"{WHAT} {url} is a tar, which shard.kind webdataset reads")
    if not name.lower().endswith(SUFFIXES):
        told = (
            _no_folders(url) if scheme_of(url) in WEB else f"{WHAT} {url} is a file and not a list of images"
        )
        raise UserError(told)
    return _files_of_list(remote, name)


def _files_of_list(remote: Remote, name: str) -> Files:
    """The images that a list names, relative to its folder."""
    url, place = remote.url(name), remote.location(name)
    table = read_table(place.read(), name, is_path)
    rows = [] if table is None else paths_of(table)
    if not rows:
        raise UserError(f"{WHAT} {url} is not a list of images: no column of it holds paths of pictures")
    absolute = next((row for row in rows if is_url(row)), None)
    if absolute is not None:
        raise UserError(
            f"{WHAT} {url} lists {absolute[:200]!r}; paths must be relative to {remote.root}: pictures of other hosts are "
            "fetched first, by img2dataset"
        )
    for row in rows:
        check_inside(row, url)
    aliases = {row: posixpath.normpath(row) for row in rows}
    names = sorted(set(aliases.values()))
    members = {row: Location("", url=f"{remote.root}/{row}") for row in names} | {name: place}
    return Files(remote.root, names, {name: "the list"}, members=members, listing=name, aliases=aliases)


def samples_of_remote(
    remote: Remote, names: Sequence[str], passed_over: PassedOver, cache: Cache
) -> dict[str, dict[str, dict[str, Location]]]:
    """Tar → key → extension → location, of each tar fetched one after another."""
    found = {}
    for name in track(names, "tars", "tars"):
        wanted = remote.wanted(name)
        with cache.held(wanted):
            found[name] = tar_samples(cache.path_of(wanted), passed_over, wanted)
    return found
