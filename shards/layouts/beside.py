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
"""In names of files that speak of images and say neither what they show nor what they are called."""
MOST_UNASKED = 1 << 28
"""Bytes of a file that is looked into unasked: boxes of a large set have more."""


@dataclass(frozen=True)
class Beside:
    """What files say of images, by the images' names.

    Attributes:
        labels: class names.
        captions: as many as there are.
        splits: train, val or test.
        missing: names in tables that no image has, each once; the others speak of them too.
        lists: splits by files of names, for where neither a column nor folders say it.
        read: the files.
        columns: (use, name) of each column that was read.
        notes: what to say of them.
        warnings: what to say of tables that seem to speak of the images and were not read.
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
    """Read the tables that `reading` names, or those that are there.

    Args:
        files: the source.
        names: of the images that rows may speak of.
        reading: tables, columns and roles.
        source: for errors.

    Raises:
        UserError: a table that is named and not there or not fit, or two that disagree.
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
    """The same, without lists that disagree; UserError where these were asked for."""
    lists = found.lists
    if not lists.torn:
        return found
    wrong = f"{lists.torn}: one list for each split is taken, shard.tables: [TRAIN.txt, TEST.txt]"
    if asked:
        raise UserError(f"shard.source {source}: {wrong}")
    read = [name for name in found.read if name not in lists.only]
    notes = [
        note
        for note in found.notes
        if not any(note.startswith(f"{name} lists ") for name in lists.files.values())
    ]
    return replace(
        found, lists=Lists(), read=read, notes=[*notes, f"lists of splits are not read, since {wrong}"]
    )


def _is_name(text: str, index: NameIndex) -> bool:
    return (
        is_path(text) or index.find(text) is not None
    )  # a whole line of Flickr's, NAME#0 and a caption, is none


def tables_of(files: Files, texts: Mapping[str, str], reading: Reading, source: str) -> list[str]:
    """Names of the files that may be tables: those that are asked for, or all but an image's own.

    Raises:
        UserError: one that is asked for is not there.
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
    """Take what a table says of images; one that speaks of none is passed over."""
    uses = None if table is None else uses_of(table, index, reading)
    if table is not None and uses is None and _ambiguous(table, index):
        index = NameIndex(of_split(index.names, split_of_file(name)))
        uses = uses_of(table, index, reading)
    if table is None or uses is None:
        several = None if table is None else _ambiguous(table, index)
        if several:
            wrong = f"{name} calls images {several!r}, and several are called so: give their paths below the source"
            found.warnings.append(wrong)
        if reading.tables:
            why = found.warnings or [
                f"{name}: no column holds the images' names; its columns are {counted(list(table.columns)) if table else 'none'}"
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
                f"{name} names images, and no column of it is read: {how_to_take(rest, table)}"
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
    """Take the split after which a file of names is named."""
    names = [name for row in table.rows if (name := index.find(row[column], folder)) is not None]
    found.lists.add(table.name, split, names)
    found.read.append(table.name)
    gone = f" ({len(table.rows) - len(names):,} more are not there)" if len(names) < len(table.rows) else ""
    found.notes.append(f"{table.name} lists {len(names):,} images: {split}{gone}")


def _ambiguous(table: Table, index: NameIndex) -> str | None:
    """A cell by which a table calls several images; None unless most cells of a column are such."""
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
            f"{table}: {name} has two labels, {found.labels[name]} and {label}; expected one class an image: name one table "
            "by shard.tables, or another column by shard.columns"
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
    """UserError where a column that is asked for was in no table that was read."""
    for use, column in reading.columns.items():
        if (use, column) not in found.columns:
            raise UserError(
                f"shard.columns says {use}: {column}, and no table of shard.source {source} that names its images has such a "
                f"column; read were: {'; '.join(found.notes) or 'none'}"
            )
