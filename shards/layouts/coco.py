"""COCO's captions: annotations/captions_SPLIT.json beside SPLIT/NAME.jpg, or beside images/SPLIT/NAME.jpg.

A file is read one entry at a time, and what is kept of an image is its name, its captions, and 53 bytes.
"""

import json
import re
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shards.layouts.folder import keep_apart
from shards.layouts.formats import PassedOver, add
from shards.layouts.image_table import Growing, ImageTable, Texts, in_order
from shards.layouts.listed import SPLIT_NAMES, Codes, Source, clean_caption
from shards.layouts.names import split_of
from shards.layouts.reading import SKIPPED_BY_ROLE, Part, Reading, check_roles
from shards.layouts.streams import EMPTY, chunks_of, elements
from shards.layouts.walking import Files, check_inside
from workspace.errors import UserError
from workspace.exact.manifest import parsed

CAPTIONS = re.compile(r"(.*/)?annotations/captions_(.+)\.json")
UNLISTED = "in no captions file"
HALF = re.compile("[\ud800-\udfff]")
"""Half of a surrogate pair, which JSON can write and UTF-8 cannot."""


@dataclass(frozen=True)
class CocoImage:
    """An entry of `images`; COCO's other fields are ignored."""

    id: int | str
    file_name: str


@dataclass(frozen=True)
class CocoCaption:
    """An entry of `annotations`."""

    image_id: int | str
    caption: str


ENTRIES = {"images": (CocoImage, "id", "file_name"), "annotations": (CocoCaption, "image_id", "caption")}
"""Key of a captions file → what its entries are, and their two fields."""


def coco_entries(chunks: Iterator[bytes], where: str) -> Iterator[tuple[str, int | str, str]]:
    """The entries of a captions file, as they come: `images` or `annotations`, an image's id, and a file's name or a caption.

    Raises:
        UserError: not JSON, or an entry that does not follow COCO's format.
    """
    seen = dict.fromkeys(ENTRIES, -1)
    for key, entry, is_element in elements(chunks, where):
        if key not in ENTRIES:
            continue
        if not is_element:
            raise UserError(f"{where}: {key}: Input should be a valid array")
        seen[key] += 1
        if entry is EMPTY:
            continue
        kind, name, text = ENTRIES[key]
        right = (
            isinstance(entry, dict) and type(entry.get(name)) in (int, str) and type(entry.get(text)) is str
        )
        if not right or HALF.search(entry[text]):
            parsed(kind, json.dumps(entry), f"{where}: {key}.{seen[key]}")
            raise AssertionError(entry)
        yield key, entry[name], entry[text]
    for key, count in seen.items():
        if count < 0:
            raise UserError(f"{where}: {key}: Field required")


def caption_files(files: Files) -> list[str]:
    """Names of the captions files of a source."""
    return [name for name in files.others if CAPTIONS.fullmatch(name)]


def list_coco(files: Files, reading: Reading, source: str) -> Source:
    """The images that a captions file lists, with all their captions; the others are skipped and counted.

    Raises:
        UserError: no captions file, a file that is not COCO's, or an image in two splits.
    """
    check_roles(reading, [*files.names, *(_folder(name) for name in caption_files(files))], (), source)
    found = caption_files(files)
    if not found:
        raise UserError(
            f"{source}/annotations holds no captions_*.json; expected COCO's layout (annotations/, train2017/, val2017/)"
        )
    listing, passed_over, notes = _Listing(files), files.passed_over(found), list[str]()
    for path in found:
        folder = _folder(path)
        role = reading.role_of(folder) or split_of(folder)
        names, strays = listing.add(path, folder, role)
        if strays:
            notes.append(f"{path}: skipped the captions of {strays:,} images that it does not list")
        if role in ("test", "skip"):
            notes += _left_out(role, folder, names, passed_over)
    if listing.unlisted:
        add(passed_over, UNLISTED, listing.unlisted)
    return Source(listing.images(), passed_over=passed_over, read=tuple(found), notes=tuple(notes))


def _folder(path: str) -> str:
    """`train2017` of annotations/captions_train2017.json."""
    match = CAPTIONS.fullmatch(path)
    assert match is not None, path
    return match[2]


def _left_out(role: str, folder: str, names: list[str], passed_over: PassedOver) -> list[str]:
    if role == "skip":
        add(passed_over, SKIPPED_BY_ROLE, len(names))
        return []
    return keep_apart([Part(f"{folder}/", role, names)], passed_over)


class _Listing:
    """The images of the captions files so far."""

    def __init__(self, files: Files) -> None:
        self.files, self.there = files, frozenset(files.names)
        self.seen = array("q")
        self.hashes = array("q")
        """Hashes of the names of all rows: equal names have equal hashes."""
        self.parts: list[tuple[str, int, Texts, Texts]] = []
        """A file's path, its split's code, its images' names and their captions."""

    def add(self, path: str, folder: str, role: str | None) -> tuple[list[str], int]:
        """Read a file.

        Returns:
            If its images are left out by their role, the names of those that exist; and how many images have captions without
            being listed.
        """
        base, where = path.partition("annotations/")[0], self.files.shown(path)
        names, ids, texts, owners = Growing(), array("q"), Growing(), array("q")
        apart, left = role in ("test", "skip"), list[str]()
        for key, number, text in coco_entries(chunks_of(self.files.locate(path)), where):
            if key == "annotations":
                if caption := clean_caption(text):
                    owners.append(_code(number))
                    texts.append(f"{caption}\n")
                continue
            check_inside(text, where)
            name = _place(base, folder, text, self.there)
            if name in self.there:
                self.seen.append(hash(name))
                if apart:
                    left.append(name)
            ids.append(_code(number))
            names.append(name)
            if not apart:
                self.hashes.append(hash(name))
        captions, strays = _by_image(np.asarray(ids), texts.texts(), np.asarray(owners))
        if not apart:
            self.parts.append(
                (path, -1 if role is None else SPLIT_NAMES.index(role), names.texts(), captions)
            )
        return left, strays

    @property
    def unlisted(self) -> int:
        """Number of images that exist and that no file lists."""
        return len(self.there) - len(np.unique(np.asarray(self.seen)))

    def images(self) -> ImageTable:
        """All images, ordered by name.

        Raises:
            UserError: one is in two splits.
        """
        names = _joined([names for _, _, names, _ in self.parts])
        captions = _joined([captions for _, _, _, captions in self.parts])
        files = np.repeat(np.arange(len(self.parts), dtype=np.int32), [len(part[2]) for part in self.parts])
        splits = np.asarray([part[1] for part in self.parts], np.int8)[files]
        order = in_order(names)
        hashes = np.asarray(self.hashes)[order]
        alike = (np.flatnonzero(hashes[1:] == hashes[:-1]) + 1).tolist()
        again = [place for place in alike if names[int(order[place])] == names[int(order[place - 1])]]
        if again:
            captions = self._merged(names, captions, files, splits, order, again)
            order = np.delete(order, again)
        codes = Codes(splits[order], np.full(len(order), -1, np.int32))
        return ImageTable(names, captions, order, codes, self.files.locate)

    def _merged(
        self,
        names: Texts,
        captions: Texts,
        files: NDArray[np.int32],
        splits: NDArray[np.int8],
        order: NDArray[np.int64],
        again: Sequence[int],
    ) -> Texts:
        """The captions, where the first entry of an image has those of its later ones too."""
        more: dict[int, dict[str, None]] = {}
        first = -1
        for place in again:
            row = int(order[place])
            if names[row] != ("" if first < 0 else names[first]):
                first = int(order[place - 1])
                more[first] = dict.fromkeys(captions[first].split("\n")[:-1])
            if splits[row] != splits[first]:
                split = "no split" if splits[first] < 0 else SPLIT_NAMES[splits[first]]
                raise UserError(
                    f"{self.parts[files[row]][0]} lists {names[row]}, which another captions file has in {split}: "
                    "leave one of them out"
                )
            more[first] |= dict.fromkeys(captions[row].split("\n")[:-1])
        return Texts.of(
            "".join(f"{text}\n" for text in more[row]) if row in more else captions[row]
            for row in range(len(captions))
        )


def _code(number: int | str) -> int:
    """An image's id as 64 bits: itself, or if it is a text or longer its hash."""
    return number if type(number) is int and -(1 << 63) <= number < 1 << 63 else hash((number,))


def _by_image(ids: NDArray[np.int64], texts: Texts, owners: NDArray[np.int64]) -> tuple[Texts, int]:
    """The captions of each image, each once, with a line end after it; and the number of owners without an image."""
    order = np.argsort(owners, kind="stable")
    ordered = owners[order]
    first, last = np.searchsorted(ordered, ids), np.searchsorted(ordered, ids, "right")
    joined = Texts.of(
        "".join(dict.fromkeys(texts[place] for place in order[start:end].tolist()))
        for start, end in zip(first.tolist(), last.tolist(), strict=True)
    )
    return joined, len(np.setdiff1d(owners, ids))


def _joined(parts: list[Texts]) -> Texts:
    """Texts one after the other."""
    if len(parts) == 1:
        return parts[0]
    before = np.cumsum([0, *(len(part.data) for part in parts)])
    ends = [part.ends + start for part, start in zip(parts, before.tolist(), strict=False)]
    none = (np.empty(0, np.uint8), np.empty(0, np.int64))
    return Texts(np.concatenate([none[0], *(part.data for part in parts)]), np.concatenate([none[1], *ends]))


def _place(base: str, folder: str, name: str, there: frozenset[str]) -> str:
    """An image's path: in its split's folder, below images/, or in the source's top folder."""
    places = [f"{base}{folder}/{name}", f"{base}images/{folder}/{name}", f"{base}images/{name}", base + name]
    return next((place for place in places if place in there), places[0])
