"""Labels for validation images outside class folders: from a table, a list in their order, or ImageNet's devkit."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from shards.layouts.beside import tables_of
from shards.layouts.cells import label_text
from shards.layouts.name_index import NameIndex
from shards.layouts.names import counted
from shards.layouts.reading import Reading
from shards.layouts.tables import Table, read_table
from shards.layouts.texts import texts_beside
from shards.layouts.walking import Files
from workspace.errors import UserError

GROUND_TRUTH = "ground_truth"
META = "meta.mat"
ENOUGH = 0.99
"""Least share of a column's values that are training classes."""


@dataclass(frozen=True)
class FlatLabels:
    """Labels by image name, the files they come from, and what to report about them."""

    labels: Mapping[str, str]
    read: list[str]
    note: str


def find_labels(
    files: Files, names: Sequence[str], classes: Sequence[str], reading: Reading, prefix: str
) -> FlatLabels:
    """The class of each of the images.

    Args:
        files: the source.
        names: the images in the folder `prefix`.
        classes: the training images' classes.
        reading: the tables to search; None searches all.
        prefix: the folder, `val/`.

    Raises:
        UserError: no file has the classes, or some images have none.
    """
    index, known = NameIndex(names), frozenset(classes)
    tables = tables_of(files, texts_beside(files, names), reading, str(files.root))
    for name in tables:
        table = read_table(files.locate(name).read(), name, lambda text: index.find(text) is not None)
        if table is None or not table.rows:
            continue
        labels = _by_name(table, index, known) or _in_order(table, names, known)
        read = [name]
        if not labels and GROUND_TRUTH in name.lower():
            meta = next((other for other in files.others if PurePosixPath(other).name == META), None)
            labels, read = _devkit(files, table, names, meta, known), [name, *([meta] if meta else [])]
        if labels:
            _check_all(labels, names, name, prefix)
            return FlatLabels(
                labels, read, f"labels of {prefix} ({len(names):,} images): {' and '.join(read)}"
            )
    raise UserError(
        f"{files.root}/{prefix} holds {len(names):,} images outside class folders, and there are {len(classes):,} training "
        "classes: put a table of names and classes beside it (CSV, or the devkit's "
        f"ILSVRC2012_validation_ground_truth.txt and meta.mat); or "
        f"leave them out, shard.roles: {{{prefix.rstrip('/')}: skip}}, and shard.val_fraction of the training images is held "
        f"out (searched: {counted(tables) or 'no tables found'})"
    )


def _check_all(labels: Mapping[str, str], names: Sequence[str], table: str, prefix: str) -> None:
    lacking = [name for name in names if name not in labels]
    if lacking:
        raise UserError(
            f"{table} has no class for {len(lacking):,} of the {len(names):,} images in {prefix} ({counted(lacking, 3)}): "
            "add them, or leave the images out, shard.roles: {PATH: skip}"
        )


def _by_name(table: Table, index: NameIndex, known: frozenset[str]) -> dict[str, str]:
    """Labels from a table in which one column names the images and another their classes."""
    folder = table.name.rpartition("/")[0]
    found = [[index.find(cell, f"{folder}/" if folder else "") for cell in row] for row in table.rows[:200]]
    width = len(table.columns)
    hits = [sum(row[number] is not None for row in found) for number in range(width)]
    if not hits or not max(hits):
        return {}
    image = hits.index(max(hits))
    rows = [(index.find(row[image], f"{folder}/" if folder else ""), row) for row in table.rows]
    named = {name: row for name, row in rows if name is not None}
    for number in range(width):
        labels = {
            name: cls for name, row in named.items() if (cls := _class_of(row[number], known, table.name))
        }
        if number != image and len(labels) >= ENOUGH * len(named):
            return labels
    return {}


def _class_of(value: Any, known: frozenset[str], table: str) -> str | None:
    """The class in a cell that is one or begins with one (Kaggle's ImageNet: class and box)."""
    if isinstance(value, (list, dict)):
        return None
    text = label_text(value, "", table) or ""
    return text if text in known else next((word for word in text.split()[:1] if word in known), None)


def _in_order(table: Table, names: Sequence[str], known: frozenset[str]) -> dict[str, str]:
    """Labels from a table of classes only, in the order of the images' names."""
    values = [str(row[0]).strip() for row in table.rows]
    if len(table.columns) != 1 or len(values) != len(names) or not known.issuperset(values):
        return {}
    return dict(zip(sorted(names), values, strict=True))


def _devkit(
    files: Files, table: Table, names: Sequence[str], meta: str | None, known: frozenset[str]
) -> dict[str, str]:
    """Labels from ImageNet's list of class numbers, in the order of the images' names; meta.mat maps numbers to classes."""
    if meta is None or len(table.rows) != len(names):
        what = f"{META} is missing" if meta is None else f"it has {len(table.rows):,} lines"
        raise UserError(
            f"{table.name}: {what}; expected the devkit's {META}, and a line for each of {len(names):,} images"
        )
    wnids = read_synsets(files.locate(meta).read(), meta)
    numbers = [str(row[0]).strip() for row in table.rows]
    unknown = [number for number in numbers if wnids.get(number) not in known]
    if unknown:
        cls = wnids.get(unknown[0], "no class")
        raise UserError(
            f"{table.name} says {unknown[0]}, which {meta} calls {cls}: {len(unknown):,} of {len(names):,} validation images are "
            "of no class that is trained on; leave them out, or add the class"
        )
    return {name: wnids[number] for name, number in zip(sorted(names), numbers, strict=True)}


def read_synsets(data: bytes, name: str) -> dict[str, str]:
    """ILSVRC2012_ID → WordNet id, from the devkit's meta.mat (a MATLAB file: arrays only, no code).

    Raises:
        UserError: damaged, or another file.
    """
    found = load_mat(data, name).get("synsets")
    fields = getattr(getattr(found, "dtype", None), "names", None) or ()
    if found is None or not {"ILSVRC2012_ID", "WNID"} <= set(fields):
        raise UserError(f"{name} has no synsets with ILSVRC2012_ID and WNID: expected the devkit's {META}")
    return {str(int(row["ILSVRC2012_ID"])): str(row["WNID"]) for row in found.reshape(-1)}


def load_mat(data: bytes, name: str) -> dict[str, Any]:
    """The variables of a MATLAB file.

    Raises:
        UserError: not a MATLAB file.
    """
    from scipy.io import loadmat

    try:
        value: dict[str, Any] = loadmat(io.BytesIO(data), squeeze_me=True)
    except Exception as error:  # loadmat raises many kinds of errors for damaged files
        raise UserError(
            f"{name} is not a MATLAB file of version 7 or less ({type(error).__name__})"
        ) from error
    return value
