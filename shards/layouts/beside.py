"""Labels, captions and splits from files beside the images, joined by the images' names."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from shards.layouts.cells import captions_of, label_text
from shards.layouts.class_names import MAPS
from shards.layouts.columns import SAMPLED, SPOKEN_OF, UNNAMED, how_to_take, is_path, uses_of
from shards.layouts.name_index import NameIndex
from shards.layouts.names import counted
from shards.layouts.reading import ColumnUse, Reading
from shards.layouts.split_lists import Lists, of_split, split_of_file, split_text
from shards.layouts.tables import SUFFIXES, MissingPackageError, Table, read_table
from shards.layouts.texts import TEXTS, captions_in, hold_numbers, texts_beside
from shards.layouts.walking import Files, check_inside
from workspace.errors import UserError

NO_TABLES = re.compile(
    r"licen[cs]e|readme|credit|attribution|copyright|notice|checksum|md5|sha\d+|urls?\b|changelog|submission",
    re.IGNORECASE,
)
"""Words in names of files about images that give neither labels nor image names."""
MOST_UNASKED = 1 << 28
"""Largest file, in bytes, that is read without being asked for: a large set's boxes take more."""


@dataclass(frozen=True)
class Beside:
    """Metadata read from files beside the images, keyed by image name.

    Attributes:
        labels: class names.
        captions: all of them.
        splits: train, val or test.
        missing: names in tables that no image has, each once; the other attributes may contain them too.
        lists: splits from files of names, used if neither a column nor folders give the split.
        read: the files that were read.
        columns: (use, name) of each column that was read.
        notes: what to report about them.
        warnings: what to report about tables that seem to be about the images and were not read.
    """

    labels: dict[str, str] = field(default_factory=dict)
    captions: dict[str, list[str]] = field(default_factory=dict)
    splits: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    lists: Lists = field(default_factory=Lists)
    read: list[str] = field(default_factory=list)
    columns: set[tuple[str, str]] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def read_beside(files: Files, names: Sequence[str], reading: Reading, source: str) -> Beside:
    """Read the tables that `reading` names, or all that are found.

    Args:
        files: the source.
        names: the images that rows may refer to.
        reading: tables, columns and roles.
        source: for errors.

    Raises:
        UserError: a named table that does not exist or does not fit, or two that disagree.
    """
    index, found = NameIndex(names, files.aliases), Beside()
    asked = reading.tables
    texts = texts_beside(files, names)
    for name in tables_of(files, texts, reading, source):
        try:
            table = read_table(files.locate(name).read(), name, lambda text: _is_name(text, index))
        except MissingPackageError as error:
            if asked:
                raise
            found.notes.append(str(error))
            continue
        _join(table, name, index, reading, found)
    if asked is None or TEXTS in asked:
        _take_texts(files, texts, asked is not None, found)
    _check_columns(reading, found, source)
    return _without_torn_lists(found, asked is not None, source)


def _without_torn_lists(found: Beside, asked: bool, source: str) -> Beside:
    """The same without lists that contradict each other; UserError if the user asked for these."""
    lists = found.lists
    if not lists.torn:
        return found
    wrong = f"{lists.torn}: name one list per split, shard.tables: [TRAIN.txt, TEST.txt]"
    if asked:
        raise UserError(f"shard.source {source}: {wrong}")
    read = [name for name in found.read if name not in lists.only]
    notes = [
        note
        for note in found.notes
        if not any(note.startswith(f"{name} lists ") for name in lists.files.values())
    ]
    return replace(
        found, lists=Lists(), read=read, notes=[*notes, f"lists of splits are not read, because {wrong}"]
    )


def _is_name(text: str, index: NameIndex) -> bool:
    # a line of Flickr's, NAME#0 and a caption, is not an image's name
    return is_path(text) or index.find(text) is not None


def tables_of(files: Files, texts: Mapping[str, str], reading: Reading, source: str) -> list[str]:
    """Names of the files that may be tables: those asked for, or all except one image's own.

    Raises:
        UserError: a table that was asked for does not exist.
    """
    if reading.tables is None:
        images = {name.rpartition(".")[0] for name in files.names}
        return [
            name
            for name in files.others
            if name.lower().endswith(SUFFIXES)
            and not NO_TABLES.search(name.rpartition("/")[2])
            and name not in texts
            and name.rpartition("/")[2].lower() not in MAPS
            and name.rpartition(".")[0] not in images
            and files.size(name) <= MOST_UNASKED
        ]
    asked = [name for name in reading.tables if name != TEXTS]
    for name in asked:
        if name not in files.others:
            there = [other for other in files.others if other.lower().endswith(SUFFIXES)]
            raise UserError(
                f"shard.tables names {name}, which shard.source {source} does not have; it has {counted(there) or 'no tables'} "
                "(a table must be below the source, so that DVC notices its changes)"
            )
    return asked


def _join(table: Table | None, name: str, index: NameIndex, reading: Reading, found: Beside) -> None:
    """Add a table's metadata; a table that names no image is skipped."""
    uses = None if table is None else uses_of(table, index, reading)
    if table is not None and uses is None and _ambiguous(table, index):
        index = NameIndex(of_split(index.names, split_of_file(name)))
        uses = uses_of(table, index, reading)
    if table is None or uses is None:
        several = None if table is None else _ambiguous(table, index)
        if several:
            wrong = f"{name} names {several!r}, which several images are called: give their paths below the source"
            found.warnings.append(wrong)
        if reading.tables:
            why = found.warnings or [
                f"{name}: no column holds the images' names; it has {counted(list(table.columns)) if table else 'none'}"
            ]
            raise UserError(why[-1])
        return
    rest = [column for number, column in enumerate(table.columns) if number not in uses.values()]
    rest = [column for column in rest if not (table.header and UNNAMED.fullmatch(column.strip()))]
    folder = name.rpartition("/")[0]
    folder = f"{folder}/" if folder else ""
    if "split" not in uses and (split := split_of_file(name)):
        _take_list(table, uses["image"], folder, split, index, found)
        if len(uses) == 1:
            found.lists.only.append(name)
    if len(uses) == 1:
        if rest:
            found.warnings.append(
                f"{name} names images, but none of its other columns is read: {how_to_take(rest, table)}"
            )
        return
    for row in table.rows:
        _take_row(row, uses, index, folder, table, found)
    found.read.append(name)
    found.columns.update((use, table.columns[number]) for use, number in uses.items())
    shown = ", ".join(f"{use} from {table.columns[number]}" for use, number in uses.items())
    found.notes.append(
        f"{name}: {shown}" + (f"; not read: {how_to_take(rest, table)}" if rest and table.header else "")
    )


def _take_list(table: Table, column: int, folder: str, split: str, index: NameIndex, found: Beside) -> None:
    """Add the split that a list of names is called after."""
    names = [name for row in table.rows if (name := index.find(row[column], folder)) is not None]
    found.lists.add(table.name, split, names)
    found.read.append(table.name)
    gone = f" ({len(table.rows) - len(names):,} more do not exist)" if len(names) < len(table.rows) else ""
    found.notes.append(f"{table.name} lists {len(names):,} images: {split}{gone}")


def _ambiguous(table: Table, index: NameIndex) -> str | None:
    """A cell that names several images; None unless most cells of its column do."""
    sample = table.rows[:: max(1, len(table.rows) // SAMPLED)]
    for number in range(len(table.columns)):
        cells = [
            str(row[number]) for row in sample if row[number] is not None and index.is_ambiguous(row[number])
        ]
        if len(cells) > SPOKEN_OF * len(sample):
            return cells[0]
    return None


def _take_row(
    row: Sequence[Any],
    uses: Mapping[ColumnUse, int],
    index: NameIndex,
    folder: str,
    table: Table,
    found: Beside,
) -> None:
    text = row[uses["image"]]
    name = index.find(text, folder)
    if name is None:
        if text is None or not str(text).strip():
            return
        name = folder + str(text).strip().removeprefix("./")
        check_inside(name, table.name)
        if name not in found.labels and name not in found.captions and name not in found.splits:
            found.missing.append(name)
    if "label" in uses:
        _add_label(name, label_text(row[uses["label"]], name, table.name), table.name, found)
    if "caption" in uses:
        found.captions.setdefault(name, []).extend(captions_of(row[uses["caption"]]))
    if "split" in uses and row[uses["split"]] is not None:
        found.splits[name] = split_text(table.columns[uses["split"]], row[uses["split"]])


def _add_label(name: str, label: str | None, table: str, found: Beside) -> None:
    if label is not None and found.labels.setdefault(name, label) != label:
        raise UserError(
            f"{table}: {name} has two labels, {found.labels[name]} and {label}; expected one class per image: name one table "
            "in shard.tables, or another column in shard.columns"
        )


def _take_texts(files: Files, texts: Mapping[str, str], asked: bool, found: Beside) -> None:
    if not texts:
        return
    if note := hold_numbers(files, texts):
        if asked:
            raise UserError(f"{note}: take '{TEXTS}' out of shard.tables")
        found.notes.append(note)
        return
    for name, image in texts.items():
        if captions := captions_in(files, name):
            found.captions.setdefault(image, []).extend(captions)
    found.read.extend(texts)
    found.notes.append(f"captions from {len(texts):,} texts beside the images")


def _check_columns(reading: Reading, found: Beside, source: str) -> None:
    """UserError if a column that was asked for is in none of the tables that were read."""
    for use, column in reading.columns.items():
        if (use, column) not in found.columns:
            raise UserError(
                f"shard.columns says {use}: {column}, but no table of shard.source {source} that names its images has this "
                f"column; tables read: {'; '.join(found.notes) or 'none'}"
            )
