"""The law of long lists: read in parts, a list is the same source as read whole; its mistakes are named."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shards.layouts.image_table import ImageTable
from shards.layouts.listed import ImageList, Source
from shards.layouts.reading import Reading
from shards.making.sources import Kind, list_source
from workspace.errors import UserError

COUNT = 60
Rows = Sequence[Mapping[str, Any]]


def rows_of(count: int = COUNT) -> list[dict[str, Any]]:
    """Rows with every use, some cells empty, and every fifth image in two rows."""
    rows = []
    for number in range(count):
        twin = number - 1 if number % 5 == 4 else number
        rows.append({
            "path": f"{('b', 'a', 'é')[twin % 3]}/{(twin * 7) % count:03d}.jpg",
            "label": None if twin % 11 == 10 else f"class {twin % 4}",
            "caption": None if number % 7 == 3 else f'number {number}, "big"' + "\nand more" * (number % 2),
            "split": ("train", "val", "test", "train")[twin % 4],
        })  # fmt: skip
    return rows


def table(path: Path, rows: Rows, columns: Sequence[str]) -> Path:
    """A CSV, TSV, JSON lines or Parquet of some columns."""
    import csv

    if path.suffix == ".jsonl":
        lines = [{name: row[name] for name in columns if row[name] is not None} for row in rows]
        path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    elif path.suffix == ".parquet":
        import pyarrow as arrow
        import pyarrow.parquet

        arrow.parquet.write_table(arrow.table({name: [row[name] for row in rows] for name in columns}), path)
    else:
        tabs = path.suffix == ".tsv"
        empty = "nan" if tabs else None  # a tab at the end of a line would be taken for white space
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter="\t" if tabs else ",")
            writer.writerow(columns)
            writer.writerows([empty if row[name] is None else row[name] for name in columns] for row in rows)
    return path


def both(monkeypatch: pytest.MonkeyPatch, kind: Kind, path: Path, reading: Reading) -> list[Source | str]:
    """What the list is read whole and in parts, or the error."""
    (path.parent / "b").mkdir(exist_ok=True)
    (path.parent / "b" / "000.jpg").write_bytes(b"")
    found: list[Source | str] = []
    for long in (False, True):
        if long:
            monkeypatch.setattr("shards.layouts.long_list.LONG", 0)
            monkeypatch.setattr("shards.layouts.streams.CHUNK", 700)
            monkeypatch.setattr("shards.layouts.long_rows.MOST_ROWS", 25)
        try:
            source = list_source(kind, str(path), reading)
        except UserError as error:
            found.append(str(error))
        else:
            assert isinstance(source.images, ImageTable) == long
            found.append(source)
    return found


WHOLE = ("path", "label", "caption", "split")


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
@pytest.mark.parametrize(
    "columns", [WHOLE, ("path", "caption"), ("path", "label"), ("path", "split"), ("path",)], ids=str
)
def test_a_list_read_in_parts_is_the_list_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, columns: Sequence[str]
) -> None:
    path = table(tmp_path / f"all.{suffix}", rows_of(), columns)
    kind: Kind = "folder" if columns == ("path",) else "metadata"
    whole, parts = both(monkeypatch, kind, path, Reading())
    assert isinstance(whole, Source) and isinstance(parts, Source), (whole, parts)
    assert list(parts.images) == list(whole.images)
    assert replace(parts, images=ImageList(), notes=()) == replace(whole, images=ImageList(), notes=())
    assert len(parts.images) > 20 and set(parts.notes) >= {
        note for note in whole.notes if "kept apart" in note
    }


@pytest.mark.parametrize("roles", [{}, {"b": "val"}, {"é": "skip"}], ids=str)
@pytest.mark.parametrize("name", ["paths.txt", "images.listing"])
def test_folders_of_a_list_read_in_parts_are_its_splits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, roles: Any
) -> None:
    named = {"a": "train", "b": "val", "é": "test"} if not roles else {"a": "a", "b": "b", "é": "é"}
    names = [f"data/{named[row['path'][0]]}{row['path'][len(row['path'][0]) :]}" for row in rows_of()]
    names = sorted(set(names)) if name.endswith("listing") else names
    lines = [f"{one}\t12\t34" for one in names] if name.endswith("listing") else names
    head = [f"# root: {tmp_path}"] if name.endswith("listing") else []
    (tmp_path / name).write_text("".join(f"{line}\n" for line in [*head, *lines]), encoding="utf-8")
    (tmp_path / Path(names[0]).parent).mkdir(parents=True)
    (tmp_path / names[0]).write_bytes(b"")
    roles = roles | ({"a": "train", "é": "test"} if "b" in roles else {})
    whole, parts = both(monkeypatch, "folder", tmp_path / name, Reading(roles=roles))
    assert isinstance(whole, Source) and isinstance(parts, Source), (whole, parts)
    assert list(parts.images) == list(whole.images)
    assert replace(parts, images=ImageList()) == replace(whole, images=ImageList())


def test_folders_are_classes_where_the_user_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = table(tmp_path / "all.csv", rows_of(), ("path", "caption"))
    monkeypatch.setattr("shards.layouts.long_list.LONG", 0)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "000.jpg").write_bytes(b"")
    found = list_source("metadata", str(path), Reading(columns={"label": "folder"}))
    assert found.classes == ("a", "b", "é")
    assert all(found.classes[image.cls or 0] == image.name[0] for image in found.images)


@pytest.mark.parametrize(
    ("row", "reading", "why"),
    [
        (
            {"path": "b/000.jpg", "label": "another"},
            Reading(),
            r"b/000\.jpg has two labels, class 0 and another",
        ),
        (
            {"path": "c/1.jpg", "split": "odd"},
            Reading(columns={"split": "split"}),
            r"the split column has the value 'odd'",
        ),
        (
            {"path": "c/1.jpg"},
            Reading(roles={"nowhere": "skip"}),
            r"names nowhere, which shard\.source .* does not have",
        ),
        ({"path": "c/1.jpg"}, Reading(columns={"label": "colour"}), r"shard\.columns says label: colour"),
    ],
)
def test_mistakes_in_a_list_are_named_as_in_a_short_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: dict[str, Any], reading: Reading, why: str
) -> None:
    rows = [*rows_of(), dict.fromkeys(WHOLE) | {"label": "class 1", "split": "train"} | row]
    path = table(tmp_path / "all.csv", rows, WHOLE)
    for found in both(monkeypatch, "metadata", path, reading):
        assert isinstance(found, str), found
        with pytest.raises(UserError, match=why):
            raise UserError(found)
