"""What a listed source is: its images, not yet read, and what is known of each."""

import os
import re
import stat
import unicodedata
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

ESCAPED = re.compile("[\udc80-\udcff]")
"""Bytes of no UTF-8, as `surrogateescape` keeps them."""
MOST_FILE_BYTES = 1 << 29
"""Bytes of an image file at most: a sparse file of a terabyte is read by nobody."""


@dataclass(frozen=True)
class Location:
    """Where some bytes are: a whole file, or a part of one.

    Attributes:
        path: of the file.
        offset: of the first byte.
        length: in bytes; -1 is to the file's end.
        inflated: bytes after inflating (a packed member of a zip); -1 where they are stored as they are.
    """

    path: str
    offset: int = 0
    length: int = -1
    inflated: int = -1

    def read(self) -> bytes:
        """The bytes.

        Raises:
            OSError: there is no such file, it may not be read, it is not a plain file (a FIFO would be waited for without
                end), it is larger than 512 MiB, or damaged in its zip.
        """
        descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise OSError("not a plain file")
            length = found.st_size - self.offset if self.length < 0 else self.length
            if max(length, self.inflated) > MOST_FILE_BYTES:
                raise OSError(f"larger than {MOST_FILE_BYTES:,} bytes")
            file.seek(self.offset)
            data = file.read(length)
        return data if self.inflated < 0 else _inflate(data, self.inflated)


def _inflate(data: bytes, size: int) -> bytes:
    """The bytes of a packed member, no more than it says it has; OSError where it is damaged."""
    try:
        made = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, size + 1)
    except zlib.error as error:
        raise OSError("damaged in its zip") from error
    if len(made) != size:
        raise OSError("damaged in its zip")
    return made


@dataclass(frozen=True)
class SourceImage:
    """An image of the source, not yet read.

    Attributes:
        name: path relative to the source: its identity (split by hash, order, report of bad files).
        data: its bytes.
        split: train or val where the source says so.
        cls: index of its class.
        captions: of the image.
        attributes: name → value.
        mask: bytes of its object's mask, a picture.
    """

    name: str
    data: Location
    split: str | None = None
    cls: int | None = None
    captions: tuple[str, ...] = ()
    attributes: Mapping[str, str] | None = None
    mask: Location | None = None


@dataclass(frozen=True)
class Source:
    """A listed source.

    Attributes:
        images: in the order of their names.
        classes: class names, sorted.
        attributes: attribute name → its values.
        made_from: name → fingerprint, where the source is an artifact.
        passed_over: why files of the source (of tars: samples) that are not its images were passed over → how many.
        kind: the layout that was read (what `auto` found).
        read: files that were read for labels, captions or splits: neither images nor passed over.
        notes: what a person should know before training on it, a line each.
    """

    images: list[SourceImage]
    classes: tuple[str, ...] | None = None
    attributes: Mapping[str, tuple[str, ...]] | None = None
    made_from: Mapping[str, str] = field(default_factory=dict)
    passed_over: Mapping[str, int] = field(default_factory=dict)
    kind: str = ""
    read: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def clean_caption(text: str) -> str:
    """A caption as one line: control characters and line ends become spaces, what is not Unicode becomes U+FFFD.

    Bytes that were not UTF-8 (`surrogateescape`) are read as Windows-1252, as which older tables are written.
    """
    if ESCAPED.search(text):
        text = text.encode("utf-8", "surrogateescape").decode("cp1252", "replace")
    text = text.encode("utf-8", "replace" if text.isascii() else "surrogatepass").decode("utf-8", "replace")
    return " ".join("".join(" " if unicodedata.category(sign) == "Cc" else sign for sign in text).split())


def shown_name(name: str) -> str:
    r"""A file's name as text: bytes that are not UTF-8 are written `\xe9`."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
