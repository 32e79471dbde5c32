"""A listed source: its images, not yet read, and the metadata of each."""

import errno
import os
import re
import stat
import unicodedata
import zlib
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from workspace.stores.opening import MissingError, read, read_whole

T = TypeVar("T")
SPLIT_NAMES = ("train", "val")
"""A split's code is its place here, -1 if it is null."""
ESCAPED = re.compile("[\udc80-\udcff]")
"""Bytes that are not UTF-8, as `surrogateescape` represents them."""
MOST_FILE_BYTES = 1 << 29
"""Largest image file in bytes: a sparse file may claim a terabyte."""


@dataclass(frozen=True)
class Location:
    """The location of some bytes: a file or part of one.

    Attributes:
        path: the file.
        offset: of the first byte, in bytes.
        length: in bytes; -1 is to the file's end.
        inflated: bytes after inflating (a compressed member of a zip); -1 if they are stored uncompressed.
        url: where the file is, if not on a disk; then `path` is its copy in the cache, which may have left it, or "".
        stamp: the store's sign of the file's version.
    """

    path: str
    offset: int = 0
    length: int = -1
    inflated: int = -1
    url: str = ""
    stamp: str = ""

    def read(self) -> bytes:
        """The bytes.

        Raises:
            OSError: the file does not exist, is not readable, is not a plain file (reading a FIFO would never end), is
                larger than 512 MiB, or is damaged in its zip.
            StoreError: the store that has it fails.
        """
        data = self._bytes()
        return data if self.inflated < 0 else _inflate(data, self.inflated)

    def _bytes(self) -> bytes:
        if self.path:
            try:
                return self._from_disk()
            except FileNotFoundError:
                if not self.url:
                    raise
        return self._from_store()

    def _from_store(self) -> bytes:
        if max(self.length, self.inflated) > MOST_FILE_BYTES:
            raise OSError(f"larger than {MOST_FILE_BYTES:,} bytes")
        try:
            if not self.path and self.length > 0:  # a picture by itself
                return read_whole(self.url, self.length)
            return read(self.url, self.offset, self.length)
        except MissingError as error:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.url) from error

    def _from_disk(self) -> bytes:
        descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise OSError("not a plain file")
            length = found.st_size - self.offset if self.length < 0 else self.length
            if max(length, self.inflated) > MOST_FILE_BYTES:
                raise OSError(f"larger than {MOST_FILE_BYTES:,} bytes")
            return _read(descriptor, length, self.offset)
        finally:
            os.close(descriptor)


def _read(descriptor: int, length: int, offset: int) -> bytes:
    """That many bytes from there on, fewer at the file's end; a file object costs more than the reading itself."""
    data = os.pread(descriptor, length, offset) if length > 0 else b""
    while 0 < len(data) < length:  # a disk on the network may give a part
        more = os.pread(descriptor, length - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data


def _inflate(data: bytes, size: int) -> bytes:
    """The bytes of a compressed member, at most its stated size; OSError if it is damaged."""
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
        name: path relative to the source; it identifies the image (its split, its order, reports of bad files).
        data: its bytes.
        split: train or val, if the source gives one.
        cls: index of its class.
        captions: all of its captions.
        attributes: name → value.
        mask: the bytes of its object's mask, a picture.
    """

    name: str
    data: Location
    split: str | None = None
    cls: int | None = None
    captions: tuple[str, ...] = ()
    attributes: Mapping[str, str] | None = None
    mask: Location | None = None


class LazySequence(Sequence[T]):
    """A sequence whose items are made where they are asked for."""

    @abstractmethod
    def at(self, place: int) -> T:
        """The item at a place, 0 … len - 1."""

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> list[T]: ...

    def __getitem__(self, index: int | slice) -> T | list[T]:
        """An item, or some."""
        places = range(len(self))[index]
        return self.at(places) if isinstance(places, int) else list(map(self.at, places))


@dataclass(frozen=True)
class Codes:
    """Splits and classes of images, as numbers.

    Attributes:
        splits: int8 [count], a place in `SPLIT_NAMES`; -1 is none.
        classes: int32 [count]; -1 is none.
    """

    splits: NDArray[np.int8]
    classes: NDArray[np.int32]

    def chosen(self, rows: NDArray[Any]) -> "Codes":
        """The codes of some images, by their numbers or a mask."""
        return Codes(self.splits[rows], self.classes[rows])


class Images(LazySequence[SourceImage]):
    """The images of a source, in order: an object for each (`ImageList`), or columns of numbers (`image_table.ImageTable`)."""

    @property
    @abstractmethod
    def codes(self) -> Codes:
        """Splits and classes of the images."""

    @abstractmethod
    def recoded(self, codes: Codes) -> "Images":
        """The same images with these splits and classes."""

    @abstractmethod
    def only(self, kept: NDArray[np.bool_]) -> "Images":
        """The images that a mask, [count], keeps."""

    @property
    @abstractmethod
    def captioned(self) -> bool:
        """Whether any image has a caption."""

    @property
    @abstractmethod
    def masked(self) -> bool:
        """Whether each image has a mask."""


@dataclass(frozen=True)
class ImageList(Images):
    """Images with an object for each."""

    members: Sequence[SourceImage] = ()

    def __len__(self) -> int:
        """Number of images."""
        return len(self.members)

    def __iter__(self) -> Iterator[SourceImage]:
        """Faster than one place after the other."""
        return iter(self.members)

    def at(self, place: int) -> SourceImage:
        """An image."""
        return self.members[place]

    @property
    def codes(self) -> Codes:
        """Splits and classes of the images."""
        place = {name: code for code, name in enumerate(SPLIT_NAMES)}
        splits = (place.get(image.split or "", -1) for image in self.members)
        classes = (-1 if image.cls is None else image.cls for image in self.members)
        return Codes(np.fromiter(splits, np.int8, len(self)), np.fromiter(classes, np.int32, len(self)))

    def recoded(self, codes: Codes) -> "ImageList":
        """The same images with these splits and classes."""
        named = ((SPLIT_NAMES[split] if split >= 0 else None) for split in codes.splits.tolist())
        classes = ((cls if cls >= 0 else None) for cls in codes.classes.tolist())
        changed = zip(self.members, named, classes, strict=True)
        return ImageList([replace(image, split=split, cls=cls) for image, split, cls in changed])

    def only(self, kept: NDArray[np.bool_]) -> "ImageList":
        """The images that a mask keeps."""
        return ImageList([image for image, keeps in zip(self.members, kept.tolist(), strict=True) if keeps])

    @property
    def captioned(self) -> bool:
        """Whether any image has a caption."""
        return any(image.captions for image in self.members)

    @property
    def masked(self) -> bool:
        """Whether each image has a mask."""
        return all(image.mask is not None for image in self.members)


@dataclass(frozen=True)
class Source:
    """A listed source.

    Attributes:
        images: ordered by name.
        classes: class names, sorted.
        attributes: attribute name → its values.
        made_from: name → fingerprint, if the source is an artifact.
        passed_over: reason for skipping → number of files (in tars: samples) of the source that are not its images.
        kind: the layout that was read (the one that `auto` chose).
        read: files that were read for labels, captions or splits: neither images nor skipped.
        notes: what to know before training on it, one line each.
    """

    images: Images
    classes: tuple[str, ...] | None = None
    attributes: Mapping[str, tuple[str, ...]] | None = None
    made_from: Mapping[str, str] = field(default_factory=dict)
    passed_over: Mapping[str, int] = field(default_factory=dict)
    kind: str = ""
    read: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def clean_caption(text: str) -> str:
    """A caption on one line: control characters and line ends become spaces, invalid Unicode becomes U+FFFD.

    Bytes that were not UTF-8 (`surrogateescape`) are read as Windows-1252, the encoding of older tables.
    """
    if text.isascii() and text.isprintable():
        return " ".join(text.split())  # what the rest would give, at a tenth of its time
    if ESCAPED.search(text):
        text = text.encode("utf-8", "surrogateescape").decode("cp1252", "replace")
    text = text.encode("utf-8", "replace" if text.isascii() else "surrogatepass").decode("utf-8", "replace")
    return " ".join("".join(" " if unicodedata.category(sign) == "Cc" else sign for sign in text).split())


def shown_name(name: str) -> str:
    r"""A file's name as text: bytes that are not UTF-8 are written `\xe9`."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
