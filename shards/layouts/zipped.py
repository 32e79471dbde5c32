"""The files of a zip, read in place: stored members by offset, compressed ones inflated."""

import struct
import zipfile
from pathlib import Path

from shards.layouts.listed import Location
from shards.layouts.walking import Files, check_inside, sorted_by_kind
from workspace.errors import UserError
from workspace.stores.cache import Wanted

LOCAL_HEADER = struct.Struct("<4s22xHH")
"""A member's local header: signature, fields repeated from the directory, lengths of its name and extra field."""
SIGNATURE = b"PK\3\4"
ENCRYPTED = 1


def files_of_zip(path: Path, wanted: Wanted | None = None) -> Files:
    """All members by name.

    Args:
        path: the zip.
        wanted: where it was fetched from, if `path` is its copy in the cache.

    Raises:
        UserError: not a zip, a damaged one, or a member that is encrypted, compressed by an unusual method, named twice, or
            outside the archive.
    """
    members: dict[str, Location] = {}
    shown, stamp = (str(path), "") if wanted is None else (wanted.url, wanted.stamp)
    url = "" if wanted is None else shown
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as file:
            size = path.stat().st_size
            for info in archive.infolist():
                name = info.filename.replace("\\", "/")  # some Windows programs write backslashes
                if name.endswith("/"):
                    continue
                _check(info, name, shown)
                if name in members:
                    raise UserError(f"{shown}: the member {name!r} appears twice: one would be lost")
                file.seek(info.header_offset)
                signature, named, extra = LOCAL_HEADER.unpack(file.read(LOCAL_HEADER.size))
                offset = info.header_offset + LOCAL_HEADER.size + named + extra
                if signature != SIGNATURE or offset + info.compress_size > size:
                    raise UserError(f"{shown} is damaged at its member {name!r}: fetch it again")
                inflated = info.file_size if info.compress_type == zipfile.ZIP_DEFLATED else -1
                members[name] = Location(str(path), offset, info.compress_size, inflated, url, stamp)
    except (zipfile.BadZipFile, struct.error, NotImplementedError, OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{shown} is not a complete zip ({error}): fetch it again") from error
    return sorted_by_kind(shown, members, members)


def _check(info: zipfile.ZipInfo, name: str, shown: str) -> None:
    check_inside(name, shown)
    if info.flag_bits & ENCRYPTED:
        raise UserError(f"{shown} is encrypted ({info.filename!r}): unpack it, and name the folder")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UserError(
            f"{shown} packs {info.filename!r} by method {info.compress_type}; expected stored or deflated: unpack it, "
            "and name the folder"
        )
