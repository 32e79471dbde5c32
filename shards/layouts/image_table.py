"""Images of a source without an object for each: columns of numbers, and texts one after the other in one array of bytes.

A listed image costs some 700 bytes of Python objects; here the bytes of its name and captions, and 21 more.
"""

from abc import abstractmethod
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from shards.layouts.listed import Location, SourceImage

SPLIT_NAMES = ("train", "val")
"""A split's code is its place here, -1 if it is null."""


T = TypeVar("T")


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


class Texts(LazySequence[str]):
    """Texts in one array of bytes.

    Args:
        data: uint8, the texts in UTF-8, lone surrogates passed.
        ends: int64 [count], where each ends.
    """

    def __init__(self, data: NDArray[np.uint8], ends: NDArray[np.int64]) -> None:
        self.data, self.ends = data, ends

    @classmethod
    def of(cls, texts: Iterable[str]) -> Self:
        """Copy texts, which are taken one at a time."""
        grown = Growing()
        for text in texts:
            grown.append(text)
        return cls(*grown.columns())

    def __len__(self) -> int:
        """Number of texts."""
        return len(self.ends)

    def at(self, place: int) -> str:
        """A text."""
        start = int(self.ends[place - 1]) if place else 0
        return self.data[start : self.ends[place]].tobytes().decode("utf-8", "surrogatepass")


class Growing:
    """Texts that come one at a time."""

    def __init__(self) -> None:
        self.data, self.ends = bytearray(), array("q")

    def append(self, text: str) -> None:
        """Add a text."""
        self.data += text.encode("utf-8", "surrogatepass")
        self.ends.append(len(self.data))

    def columns(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """The arguments of `Texts`, not copied: nothing can be added afterwards."""
        return np.frombuffer(self.data, np.uint8), np.asarray(self.ends)

    def texts(self) -> Texts:
        """All of them."""
        return Texts(*self.columns())


WORD = 8
"""Bytes of a text that are compared at a time."""
ROWS = 1 << 18
"""Texts whose words are looked at together."""


def in_order(texts: Texts) -> NDArray[np.int64]:
    """Places of texts without NUL in the order of their code points; equal ones in theirs. It holds 24 bytes per text."""
    starts = np.concatenate([[0], texts.ends[:-1]]).astype(np.int64)
    order = np.arange(len(texts))
    longest = int((texts.ends - starts).max(initial=0))
    for first in reversed(
        range(0, longest, WORD)
    ):  # a radix sort whose digits are eight bytes: the last ones first
        order = order[np.argsort(_words(texts, starts + first)[order], kind="stable")]
    return order


def _words(texts: Texts, begins: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Eight bytes of each text from there on as a number, zeros after its end."""
    found = np.zeros(len(texts), np.uint64)
    for start in range(0, len(texts), ROWS):
        here = slice(start, start + ROWS)
        places = begins[here, None] + np.arange(WORD)
        inside = places < texts.ends[here, None]
        letters = np.where(inside, texts.data[np.where(inside, places, 0)], 0).astype(np.uint8)
        found[here] = letters.view(">u8")[:, 0]
    return found


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


@dataclass(frozen=True)
class ImageTable(LazySequence[SourceImage]):
    """Images that lie in files below one folder; an object is made of one where it is asked for.

    Attributes:
        names: all names that were listed.
        captions: the captions of each name, each with a line end after it.
        rows: int64 [count], the place of each image in `names`.
        codes: split and class of each image.
        locate: a name → the location of its bytes.
    """

    names: Texts
    captions: Texts | None
    rows: NDArray[np.int64]
    codes: Codes
    locate: Callable[[str], Location]

    def __len__(self) -> int:
        """Number of images."""
        return len(self.rows)

    def at(self, place: int) -> SourceImage:
        """An image."""
        row, split = int(self.rows[place]), int(self.codes.splits[place])
        cls, name = int(self.codes.classes[place]), self.names[row]
        texts = () if self.captions is None else tuple(self.captions[row].split("\n")[:-1])
        named = None if split < 0 else SPLIT_NAMES[split]
        return SourceImage(name, self.locate(name), named, None if cls < 0 else cls, texts)

    @property
    def captioned(self) -> bool:
        """Whether any image has a caption."""
        if self.captions is None:
            return False
        lengths = np.diff(self.captions.ends, prepend=0)
        return bool(lengths[self.rows].any())


class Chosen(LazySequence[SourceImage]):
    """Some of the images of a sequence; goes to another process as a tuple.

    Args:
        images: all.
        places: int [count], the place of each.
    """

    def __init__(self, images: Sequence[SourceImage], places: NDArray[np.int64]) -> None:
        self.images, self.places = images, places

    def __len__(self) -> int:
        """Number of images."""
        return len(self.places)

    def at(self, place: int) -> SourceImage:
        """An image."""
        return self.images[int(self.places[place])]

    def __reduce__(self) -> tuple[type[tuple[Any, ...]], tuple[list[SourceImage]]]:
        """The images alone, not those that they were chosen from."""
        return tuple, (self[:],)


def codes_of(images: Sequence[SourceImage]) -> Codes:
    """Splits and classes of images."""
    if isinstance(images, ImageTable):
        return images.codes
    place = {name: code for code, name in enumerate(SPLIT_NAMES)}
    splits = (place.get(image.split or "", -1) for image in images)
    classes = (-1 if image.cls is None else image.cls for image in images)
    return Codes(np.fromiter(splits, np.int8, len(images)), np.fromiter(classes, np.int32, len(images)))


def recoded(images: Sequence[SourceImage], codes: Codes) -> Sequence[SourceImage]:
    """The same images with these splits and classes."""
    if isinstance(images, ImageTable):
        return replace(images, codes=codes)
    named = ((SPLIT_NAMES[split] if split >= 0 else None) for split in codes.splits.tolist())
    classes = ((cls if cls >= 0 else None) for cls in codes.classes.tolist())
    return [
        replace(image, split=split, cls=cls) for image, split, cls in zip(images, named, classes, strict=True)
    ]


def only(images: Sequence[SourceImage], kept: NDArray[np.bool_]) -> Sequence[SourceImage]:
    """The images that a mask keeps."""
    if isinstance(images, ImageTable):
        return replace(images, rows=images.rows[kept], codes=images.codes.chosen(kept))
    return [image for image, keeps in zip(images, kept.tolist(), strict=True) if keeps]


def are_captioned(images: Sequence[SourceImage]) -> bool:
    """Whether any image has a caption."""
    return images.captioned if isinstance(images, ImageTable) else any(image.captions for image in images)


def are_masked(images: Sequence[SourceImage]) -> bool:
    """Whether each image has a mask."""
    return not isinstance(images, ImageTable) and all(image.mask is not None for image in images)
