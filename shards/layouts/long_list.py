"""A list of images too large for memory: its rows are read some at a time, and 44 bytes beside its texts are kept of each.

The first rows decide which column is what; all else is as kinds folder and metadata read a list (a test compares them).
"""

import os
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.layouts.cells import captions_of, label_text
from shards.layouts.columns import SPOKEN_OF, uses_of
from shards.layouts.formats import PassedOver, add
from shards.layouts.image_table import Growing, ImageTable, Texts, in_order
from shards.layouts.listed import Codes, Location, Source
from shards.layouts.long_rows import tables_of
from shards.layouts.long_splits import LongImages, splits_of
from shards.layouts.metadata import NO_CAPTION, NO_LABEL, class_names
from shards.layouts.name_index import NameIndex
from shards.layouts.path_list import base_of, is_path, paths_column, plain
from shards.layouts.reading import (
    FOLDER,
    Reading,
)
from shards.layouts.split_lists import split_text
from shards.layouts.tables import SUFFIXES, Table
from shards.layouts.walking import ROOT, check_inside
from workspace.errors import UserError
from workspace.stores.addresses import is_url

LONG = 1 << 25
"""Size in bytes from which on a list is read in parts."""


def is_long(kind: str, source: str, reading: Reading) -> bool:
    """Whether a source is a list that is read in parts: only where its kind is given, since a guess looks at all names."""
    path = Path(source)
    if kind not in ("folder", "metadata") or not path.is_file() or path.stat().st_size < LONG:
        return False
    root = root_of(path)
    if root is not None:
        return kind == "folder" and not is_url(root)
    named = reading.tables in (None, (path.name,))
    return named and path.suffix.lower() in SUFFIXES and path.suffix.lower() != ".json"


def root_of(path: Path) -> str | None:
    """The folder or URL of a listing by `shards.list`; None for another file."""
    with path.open("rb") as file:
        head = file.readline(1 << 16).rstrip(b"\n")
    if not head.startswith(ROOT.encode()):
        return None
    return head.decode("utf-8", "surrogateescape").removeprefix(ROOT)


def list_long(kind: str, source: str, reading: Reading) -> Source:
    """The images of a list, in a table.

    Args:
        kind: folder or metadata.
        source: the list.
        reading: roles and columns.

    Raises:
        UserError: no list, rows that disagree about an image, or a value that is not a split.
    """
    path = Path(source)
    root, tables = root_of(path), tables_of(path)
    first = next(tables)
    number = paths_column(first)
    listed = (
        [] if number is None else [plain(str(row[number])) for row in first.rows if row[number] is not None]
    )
    listed = listed if root is not None else list(filter(is_path, listed))
    if number is None or not listed:
        raise UserError(
            f"shard.source {path} is a file and no list of images: no column of it holds paths of pictures"
        )
    uses = {"image": first.columns[number]}
    if kind == "metadata":
        found = uses_of(first, NameIndex(listed), reading) or {}
        uses |= {use: first.columns[column] for use, column in found.items() if use != "image"}
        _require_columns(uses, first, reading, source)
    rows = _Rows(path, base_of(path, listed) if root is None else Path(root), root is not None, uses)
    rows.take(first)
    for table in tables:
        rows.take(table)
    return rows.source(kind, reading, source)


def _require_columns(uses: Mapping[str, str], table: Table, reading: Reading, source: str) -> None:
    """UserError if a column that was asked for is missing, or nothing is read beside the paths."""
    for use, column in reading.columns.items():
        if column not in (*table.columns, FOLDER):
            raise UserError(
                f"shard.columns says {use}: {column}, but shard.source {source} has {', '.join(table.columns)}"
            )
    if len(uses) < 2 and reading.columns.get("label") != FOLDER:
        raise UserError(
            f"shard.source {source} has no labels, captions or splits that are recognised, in its columns "
            f"{', '.join(table.columns)}; name them in shard.columns, {{label: folder}} takes folders, or set shard.kind: folder"
        )


class _Rows:
    """The rows so far.

    Args:
        path: of the list.
        base: the folder that its paths are relative to.
        listing: whether `shards.list` wrote it.
        uses: use → column.
    """

    def __init__(self, path: Path, base: Path, listing: bool, uses: Mapping[str, str]) -> None:
        self.path, self.base, self.listing, self.uses = path, base, listing, uses
        self.places: dict[str, int] = {}
        """A folder as the list writes it → its code; several may be one folder."""
        self.folders: dict[str, int] = {}
        """A folder's absolute path → its code."""
        self.codes: dict[str, dict[str, int]] = {"label": {}, "split": {}}
        self.folder, self.label, self.split = array("i"), array("i"), array("i")
        self.bases, self.captions = Growing(), Growing()

    def take(self, table: Table) -> None:
        """Add rows."""
        place = {use: table.columns.index(name) for use, name in self.uses.items() if name in table.columns}
        if "image" not in place:
            return
        for row in table.rows:
            if row[place["image"]] is not None:
                self._take(plain(str(row[place["image"]])), row, place)

    def _take(self, text: str, row: Sequence[Any], place: Mapping[str, int]) -> None:
        if self.listing:
            check_inside(text, str(self.path))
        elif not is_path(text):
            return
        folder, slash, base = text.rpartition("/")
        code = self.places.get(folder + slash)
        self.folder.append(self._enter(folder + slash) if code is None else code)
        self.bases.append(base)
        if "label" in self.uses:
            label = label_text(row[place["label"]], text, self.path.name) if "label" in place else None
            self.label.append(self._code("label", label))
        if "caption" in self.uses:
            texts = captions_of(row[place["caption"]]) if "caption" in place else []
            self.captions.append("".join(f"{one}\n" for one in texts))
        if "split" in self.uses:
            cell = row[place["split"]] if "split" in place else None
            self.split.append(
                self._code("split", None if cell is None else split_text(self.uses["split"], cell))
            )

    def _enter(self, folder: str) -> int:
        whole = os.path.normpath(self.base / folder)
        self.places[folder] = self.folders.setdefault(whole, len(self.folders))
        return self.places[folder]

    def _code(self, use: str, text: str | None) -> int:
        known = self.codes[use]
        return -1 if text is None else known.setdefault(text, len(known))

    def source(self, kind: str, reading: Reading, source: str) -> Source:
        """All images."""
        root = self._root()
        relative = [os.path.relpath(folder, root) for folder in self.folders]
        prefixes = ["" if name == "." else f"{name}/" for name in relative]
        images = self._images(prefixes)
        passed_over: PassedOver = {}
        shares, notes = splits_of(images, prefixes, list(self.codes["split"]), reading, source, passed_over)
        labels, texts = images.labels, list(self.codes["label"])
        if kind == "metadata" and reading.columns.get("label") == FOLDER:
            labels, texts = images.folders, [Path(prefix).name for prefix in prefixes]
        kept = (shares >= -1) & self._spoken_of(images, labels, shares, passed_over, source)
        labels = labels[kept] if len(labels) else np.full(int(kept.sum()), -1, np.int32)
        classes = class_names(texts[code] for code in np.unique(labels).tolist() if code >= 0)
        number = {name: place for place, name in enumerate(classes)}
        codes = np.asarray([*(number.get(text, -1) for text in texts), -1], np.int32)
        table = ImageTable(
            images.names,
            images.captions,
            images.rows[kept],
            Codes(shares[kept].astype(np.int8), codes[labels]),
            _Locate(str(root)),
        )
        shown = ", ".join(f"{use} from {column}" for use, column in self.uses.items())
        told = [f"{self.path.name}: {shown}"] if kind == "metadata" else []
        read = () if self.listing else (self.path.name,)
        return Source(table, classes or None, passed_over=passed_over, read=read, notes=(*notes, *told))

    def _root(self) -> Path:
        """The folder that names are relative to: the list's own, if it holds all images."""
        if self.listing:
            return self.base
        own = str(self.path.parent.absolute())
        if all(f"{folder}{os.sep}".startswith(f"{own}{os.sep}") for folder in self.folders):
            return Path(own)
        return Path(os.path.commonpath(list(self.folders)))

    def _images(self, prefixes: Sequence[str]) -> LongImages:
        """The images, each once.

        Raises:
            UserError: one has two labels.
        """
        bases, folders = self.bases.texts(), np.asarray(self.folder)
        names, hashes = Growing(), array("q")
        for folder, base in zip(self.folder, bases, strict=True):
            names.append(name := f"{prefixes[folder]}{base}")
            hashes.append(hash(name))
        whole, captions = names.texts(), self.captions.texts() if "caption" in self.uses else None
        labels, splits = np.asarray(self.label), np.asarray(self.split)
        order = in_order(whole)
        alike = np.asarray(hashes)[order]
        starts = np.flatnonzero(np.concatenate([[True], alike[1:] != alike[:-1]]))
        first = order[starts]
        own = [folders[first], *(codes[first] if len(codes) else codes for codes in (labels, splits))]
        if len(starts) == len(order):
            return LongImages(whole, captions, order, *own)
        ends = np.append(starts[1:], len(order))
        self._merge(order, starts, ends, whole, own[1], own[2])
        names_once = Texts.of(whole[row] for row in first.tolist())
        if captions is not None:
            groups = zip(starts.tolist(), ends.tolist(), strict=True)
            told = captions
            captions = Texts.of(
                "".join(told[row] for row in order[start:end].tolist()) for start, end in groups
            )
        return LongImages(names_once, captions, np.arange(len(first)), *own)

    def _merge(
        self,
        order: NDArray[np.int64],
        starts: NDArray[np.int64],
        ends: NDArray[np.int64],
        names: Texts,
        labels: NDArray[np.int32],
        splits: NDArray[np.int32],
    ) -> None:
        """Give images with several rows their one label and their last split, in place."""
        for place in np.flatnonzero(ends - starts > 1).tolist():
            rows = order[starts[place] : ends[place]].tolist()
            if len(labels):
                codes = list(dict.fromkeys(self.label[row] for row in rows if self.label[row] >= 0))
                if len(codes) > 1:
                    one, other = (list(self.codes["label"])[code] for code in codes[:2])
                    raise UserError(
                        f"{self.path.name}: {names[rows[0]]} has two labels, {one} and {other}; expected one class per image"
                    )
                labels[place] = codes[0] if codes else -1
            if len(splits):
                splits[place] = next((self.split[row] for row in reversed(rows) if self.split[row] >= 0), -1)

    def _spoken_of(
        self,
        images: LongImages,
        labels: NDArray[np.int32],
        shares: NDArray[np.int32],
        passed_over: PassedOver,
        source: str,
    ) -> NDArray[np.bool_]:
        """Which images have a label, or without labels a caption."""
        asked, told, why = shares >= -1, np.ones(len(shares), np.bool_), NO_LABEL
        if len(labels):
            told = labels >= 0
        elif images.captions is not None:
            told, why = (np.diff(images.captions.ends, prepend=0) > 0)[images.rows], NO_CAPTION
        count, kept = int(asked.sum()), int((asked & told).sum())
        if kept < SPOKEN_OF * count:
            raise UserError(
                f"shard.source {source}: {self.path.name} has {why.removeprefix('no ').split(' in ')[0]}s of {kept:,} of "
                f"{count:,} images: name the right column in shard.columns, or set shard.kind: folder"
            )
        if kept < count:
            add(passed_over, why, count - kept)
        return told


@dataclass(frozen=True)
class _Locate:
    """A name → where its bytes lie."""

    root: str

    def __call__(self, name: str) -> Location:
        return Location(f"{self.root}/{name}")
