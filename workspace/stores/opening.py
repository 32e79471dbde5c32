"""Opens files at a URL through fsspec: an object store, a hub, a web server. They are listed, read by range, fetched and put.

Credentials come from the environment alone, as each store's own client reads them. A store that fails is tried again with
growing pauses, for `PATIENCE` seconds in a row; then the error names the URL and the reason in one line. What is wrong for good
(no such object, no permission, no such host) is not tried again. A host that has answered once exists: if its name is unknown
later, a network or a name server is gone.
"""

import errno
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from workspace.errors import UserError, is_out_of_space
from workspace.progress import say
from workspace.stores.addresses import CREDENTIALS, PACKAGES, WEB, scheme_of

PATIENCE, FIRST_PAUSE, LONGEST_PAUSE = 120.0, 0.25, 8.0
"""Seconds: how long a store may fail in a row, and the pauses between tries. A restart or a lost route takes a minute or two."""
STAMPS = ("ETag", "etag", "md5Hash", "content_md5", "Content-MD5", "blob_id", "oid", "generation", "Last-Modified",
          "LastModified", "last_modified", "mtime")  # fmt: skip
"""What stores call the sign that a file has not changed, the best first."""
TIMES = ("LastModified", "last_modified", "updated", "mtime")
"""What stores call the time of a file's last change: a `datetime`, or seconds."""
PASSING = (408, 425, 429)
"""Answers of 400 and above, below 500, after which another try may succeed."""

NO_SUCH_NAME = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))
"""Answers of a resolver that knows that a host does not exist, or has no address; after others another try may succeed."""
_ANSWERED: set[str] = set()
"""Schemes and hosts of the stores that have answered this process."""

T = TypeVar("T")


class StoreError(UserError):
    """A store refused, or failed longer than `PATIENCE`."""


class MissingError(StoreError):
    """There is nothing at a URL."""


@dataclass(frozen=True)
class Entry:
    """A file at a URL.

    Attributes:
        size: in bytes.
        stamp: changes with its bytes, as the store gives it (an ETag, a time); "" where it gives none.
        written: when, in seconds since 1970; 0 where the store does not say it.
    """

    size: int
    stamp: str
    written: float = 0.0


def listed(url: str) -> dict[str, Entry]:
    """Every file below a URL by its name relative to it, sorted; of a file, itself under "".

    Raises:
        StoreError: a web server, which cannot list; nothing is there; or the store fails.
    """
    if scheme_of(url) in WEB:
        return {"": entry_of(url)}
    found: dict[str, Any] = _patiently(url, lambda files, root: files.find(root, detail=True))
    _, root = _file_system(url)
    root = root.rstrip("/")
    files = {
        name.removeprefix(root).lstrip("/"): _entry(facts)
        for name, facts in found.items()
        if facts["type"] == "file" and not name.endswith("/")
    }
    if not files:
        raise MissingError(f"{url} holds no files: no such folder or bucket, or an empty one")
    return dict(sorted(files.items()))


def entry_of(url: str) -> Entry:
    """Size and stamp of the file at a URL; StoreError if there is none."""
    facts = _patiently(url, lambda files, path: files.info(path))
    if facts["type"] != "file":
        raise MissingError(f"{url} is a folder; expected a file")
    if facts.get("size") is None:
        raise StoreError(f"{url}: the server does not say how many bytes it has (Content-Length)")
    return _entry(facts)


def matching(url: str) -> list[str]:
    """The URLs of files that a pattern (`s3://bucket/a-*.tar`) matches, sorted."""
    if scheme_of(url) in WEB:
        raise StoreError(f"{url}: a web server cannot be searched for *; name the files, {{0000..0063}}.tar")
    names = _patiently(url, lambda files, pattern: files.glob(pattern))
    return [f"{url.partition('://')[0]}://{name.lstrip('/')}" for name in sorted(names)]


def read(url: str, offset: int = 0, length: int = -1) -> bytes:
    """Bytes of the file at a URL, all from `offset` on where `length` is -1.

    Raises:
        StoreError: there is no such file, it ends before them, or the store fails.
    """
    stop = None if length < 0 else offset + length

    def some(files: Any, path: str) -> bytes:
        try:
            data: bytes = files.cat_file(path, start=offset or None, end=stop)
        except OSError as error:
            if error.errno == errno.EINVAL:  # a range that begins after the end
                _refuse_changed(url, files.info(path), stop)
            raise
        if stop is not None and len(data) > length:
            data = data[offset:stop]  # the server knows no ranges, and sent the file
        if 0 <= length != len(data):
            _refuse_changed(url, files.info(path), offset + length)
            raise OSError(f"{len(data):,} bytes came from byte {offset:,} on, expected {length:,}")
        return data

    return b"" if length == 0 else _patiently(url, some)


def read_whole(url: str, size: int) -> bytes:
    """The bytes of the file at a URL; StoreError where it has another number of bytes than this, or the store fails."""

    def whole(files: Any, path: str) -> bytes:
        data: bytes = files.cat_file(path, start=None, end=size + 1)  # one more, to see that there is none
        if len(data) != size:
            _refuse_changed(url, files.info(path), None if len(data) > size else size)
            raise OSError(f"{len(data):,} bytes came, expected {size:,}")
        return data

    return _patiently(url, whole)


def fetch(url: str, target: Path, size: int) -> None:
    """Copy the file at a URL to a path; StoreError where it has another number of bytes, or the store fails."""

    def copy(files: Any, path: str) -> None:
        files.get_file(path, str(target))
        if (found := target.stat().st_size) != size:
            _refuse_changed(url, files.info(path), None if found > size else size)
            raise OSError(f"{found:,} bytes came, expected {size:,}")

    _patiently(url, copy)


def _refuse_changed(url: str, facts: dict[str, Any], least: int | None) -> None:
    """StoreError if a file has fewer bytes than `least`, or in any case without it: another try would give the same."""
    size = facts.get("size")
    if least is None or (size is not None and size < least):
        raise StoreError(
            f"{url} has {size if size is None else f'{size:,}'} bytes now: it was changed since it was listed; run the same "
            "command again, after `python -m shards.list` if the source is a listing"
        )


def put(source: Path, url: str) -> None:
    """Copy a file to a URL; on an object store it is there whole or not at all. StoreError where the store fails."""

    def copy(files: Any, path: str) -> None:
        files.makedirs(files._parent(path), exist_ok=True)
        files.put_file(str(source), path)

    _patiently(url, copy)


def remove(url: str, first: str = "") -> None:
    """Remove the file or folder at a URL, if it is there; files called `first` go before all others. StoreError as of `put`."""

    def away(files: Any, path: str) -> None:
        if not files.exists(path):
            return
        for name in files.find(path):
            if name.rpartition("/")[2] == first:
                files.rm_file(name)
        with suppress(FileNotFoundError):  # an object store has no folder without files
            files.rm(path, recursive=True)

    _patiently(url, away)


def _file_system(url: str) -> tuple[Any, str]:
    """fsspec's file system of a URL and the path in it; made in each process, because its threads do not survive a fork."""
    scheme = scheme_of(url)
    try:
        from fsspec.core import url_to_fs

        files, path = url_to_fs(url, **OPTIONS.get(scheme, {}))
    except ImportError as error:
        package = PACKAGES.get(scheme, scheme)
        raise StoreError(f"{url}: {scheme}:// needs {package}: `pip install {package}`") from error
    files.invalidate_cache()
    return files, str(path)


_TIMES = {"connect_timeout": 10, "read_timeout": 60, "retries": {"max_attempts": 1}}
OPTIONS: dict[str, dict[str, Any]] = {"s3": {"config_kwargs": _TIMES}, "s3a": {"config_kwargs": _TIMES}}
"""Scheme → options of its file system. By default botocore repeats a call for minutes before it reports anything."""


def _patiently(url: str, work: Callable[[Any, str], T]) -> T:
    """The result of some work on a file system; a failure that may pass is tried again.

    Raises:
        StoreError: it failed for good, or for longer than `PATIENCE`.
    """
    until, pause = 0.0, FIRST_PAUSE
    while True:
        try:
            found = work(*_file_system(url))
            _ANSWERED.add(_host(url))
            return found
        except (StoreError, MemoryError):
            raise
        except Exception as failed:
            error = _what_failed(url, failed)
            if is_out_of_space(error):
                raise
            reason = _reason(error)
            if told := _for_good(url, error, reason):
                raise told from error
            until = until or time.monotonic() + PATIENCE
            if time.monotonic() + pause > until:
                raise StoreError(
                    f"{url} cannot be reached ({reason}), tried for {PATIENCE:g} s; what is finished is kept: run the same "
                    "command again when the store is back"
                ) from error
            if pause == FIRST_PAUSE:
                say(f"{url}: {reason}; tried again for up to {PATIENCE:g} s")
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


def _what_failed(url: str, error: Exception) -> Exception:
    """The error behind one; fsspec's web client says of every failure that the file is not there."""
    cause = error.__cause__
    hides = scheme_of(url) in WEB and isinstance(error, FileNotFoundError)
    return cause if hides and isinstance(cause, Exception) else error


def _for_good(url: str, error: Exception, reason: str) -> StoreError | None:
    """The error to raise where another try would fail too; None where it may succeed."""
    status = _status(error)
    package = PACKAGES.get(scheme_of(url), "")
    if "Credential" in type(error).__name__ or "credentials" in str(error).lower():
        return StoreError(f"{url}: no credentials; set {CREDENTIALS.get(package, 'them in the environment')}")
    if _host(url) not in _ANSWERED and any(_is_unknown_host(one) for one in _chain(error)):
        return StoreError(
            f"{url} cannot be reached: its host is not known ({reason}); check its spelling and the network"
        )
    if isinstance(error, FileNotFoundError) or status in (404, 410):
        return MissingError(f"{url} does not exist")
    if isinstance(error, PermissionError) or status in (401, 403):
        wanted = f"; expected {CREDENTIALS[package]}" if package in CREDENTIALS else ""
        return StoreError(f"{url}: permission denied ({reason}){wanted}")
    if status is not None and 400 <= status < 500 and status not in PASSING:
        return StoreError(f"{url} is refused ({reason})")
    local = isinstance(error, OSError) and error.errno in (errno.EROFS, errno.ENAMETOOLONG, errno.EISDIR)
    if local or isinstance(error, (TypeError, ValueError, NotImplementedError, AttributeError)):
        return StoreError(f"{url} cannot be used ({reason})")
    return None


def _host(url: str) -> str:
    """Scheme and host of a web server's URL; the scheme of other stores, whose buckets have one host."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}" if scheme in WEB else scheme


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and those behind it: what it was raised from, or carries, as clients wrap a resolver's answer."""
    waiting, seen = [error], set[int]()
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        behind = (one.__cause__, one.__context__, getattr(one, "reason", None), *one.args)
        waiting += [part for part in behind if isinstance(part, BaseException)]


def _is_unknown_host(error: BaseException) -> bool:
    """Whether a resolver says that there is no such host; aiohttp's errors have its number too."""
    names = isinstance(error, socket.gaierror) or "DNS" in type(error).__name__
    return names and getattr(error, "errno", None) in NO_SUCH_NAME


def _status(error: Exception) -> int | None:
    """The HTTP status of a store's answer, if an error has one."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):  # botocore's
        found = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:
        found = getattr(error, "status", None) or getattr(response, "status_code", None)
    return found if isinstance(found, int) else None


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split())[:200]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _entry(facts: dict[str, Any]) -> Entry:
    """What a store says of a file."""
    time_ = next((facts[name] for name in TIMES if facts.get(name)), 0.0)
    written = time_.timestamp() if hasattr(time_, "timestamp") else time_ if isinstance(time_, float) else 0.0
    return Entry(int(facts["size"] or 0), _stamp(facts), written)


def _stamp(facts: dict[str, Any]) -> str:
    """A store's sign of an unchanged file, as text on one line."""
    found = next((facts[name] for name in STAMPS if facts.get(name)), "")
    return " ".join(str(found.isoformat() if hasattr(found, "isoformat") else found).split()).strip('"')
