"""Images of a source without an object for each: columns of numbers, and texts one after the other in one array of bytes.

A listed image costs some 700 bytes of Python objects; here the bytes of its name and captions, and 21 more.
"""

from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from shards.layouts.listed import SPLIT_NAMES, Codes, Images, LazySequence, Location, SourceImage


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
    # a radix sort whose digits are eight bytes: the last ones first
    for first in reversed(range(0, longest, WORD)):
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
class ImageTable(Images):
    """Images that lie in files below one folder; an object is made of one where it is asked for.

    Attributes:
        names: all names that were listed.
        captions: the captions of each name, each with a line end after it.
        rows: int64 [count], the place of each image in `names`.
        numbers: split and class of each image.
        locate: a name → the location of its bytes.
    """

    names: Texts
    captions: Texts | None
    rows: NDArray[np.int64]
    numbers: Codes
    locate: Callable[[str], Location]

    def __len__(self) -> int:
        """Number of images."""
        return len(self.rows)

    def at(self, place: int) -> SourceImage:
        """An image."""
        row, split = int(self.rows[place]), int(self.numbers.splits[place])
        cls, name = int(self.numbers.classes[place]), self.names[row]
        texts = () if self.captions is None else tuple(self.captions[row].split("\n")[:-1])
        named = None if split < 0 else SPLIT_NAMES[split]
        return SourceImage(name, self.locate(name), named, None if cls < 0 else cls, texts)

    @property
    def codes(self) -> Codes:
        """Splits and classes of the images."""
        return self.numbers

    def recoded(self, codes: Codes) -> "ImageTable":
        """The same images with these splits and classes."""
        return replace(self, numbers=codes)

    def only(self, kept: NDArray[np.bool_]) -> "ImageTable":
        """The images that a mask keeps."""
        return replace(self, rows=self.rows[kept], numbers=self.numbers.chosen(kept))

    @property
    def captioned(self) -> bool:
        """Whether any image has a caption."""
        if self.captions is None:
            return False
        lengths = np.diff(self.captions.ends, prepend=0)
        return bool(lengths[self.rows].any())

    @property
    def masked(self) -> bool:
        """No list and no captions file names masks."""
        return False


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
