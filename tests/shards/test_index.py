"""Laws of the mapped index of image shards: what is written is found, damage is named, memory is given back."""

import os
import pickle
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.images import ImageIndex, ImageShards
from shards.images import reading as images_reading
from shards.images.index import IndexTable, index_files
from shards.making.indexing import IndexWriter
from shards.verify import same
from tests.shards.making import rows_of, write_index
from workspace.errors import UserError
from workspace.exact import manifest as manifests
from workspace.exact.manifest import write_manifest
from workspace.exact.mapped import MappedArray

NAMES = st.text(min_size=1, max_size=12)  # any name: newlines, lone surrogates, letters of four bytes
PLACES = st.tuples(
    st.integers(1, (1 << 32) - 1).map(lambda block: block * 512),
    st.integers(0, (1 << 32) - 1),
    st.integers(0, (1 << 32) - 1),
)
MEMBERS = st.dictionaries(st.sampled_from(["png", "cls", "txt", "mask.png"]), PLACES)
TARS = st.lists(st.lists(st.tuples(MEMBERS, NAMES), max_size=4), min_size=1, max_size=4)


@given(TARS)
def test_what_is_written_is_found(tmp_path_factory: pytest.TempPathFactory, tars: list[list[Any]]) -> None:
    folder, rows = tmp_path_factory.mktemp("index"), list[dict[str, Any]]()
    for number, tar in enumerate(tars):
        for members, source in tar:
            rows.append({"key": f"{3 * len(rows):07d}", "tar": number, "members": members, "source": source})
    sizes = [len(tar) for tar in tars]
    write_index(folder, "train", rows, sizes)
    table = IndexTable(folder, "train", sizes)
    assert len(table) == len(rows)
    assert [asdict(row) for tar in range(len(tars)) for row in table.rows_of(tar)] == rows
    for number, row in enumerate(rows):
        assert table.tar_of(number) == row["tar"]
        assert table.at(number, row["tar"]) == (row["key"], row["members"])


@given(st.integers(0, (1 << 32) - 1))
def test_a_key_is_its_number_in_seven_digits_or_more(
    tmp_path_factory: pytest.TempPathFactory, number: int
) -> None:
    folder = tmp_path_factory.mktemp("index")
    row = {"key": f"{number:07d}", "members": {}, "source": "a"}
    write_index(folder, "val", [row], [1])
    assert IndexTable(folder, "val", [1]).at(0, 0)[0] == f"{number:07d}"


def test_numpy_alone_reads_the_index_in_place(labelled: ImageShards) -> None:
    found = np.load(labelled.folder / "train.index.npy", mmap_mode="r")
    assert isinstance(found, np.memmap)
    rows = rows_of(labelled, "train")
    assert found["key"].tolist() == [int(row["key"]) for row in rows]
    assert (found["png"]["block"] * 512).tolist() == [row["members"]["png"][0] for row in rows]


def test_a_changed_byte_of_a_large_index_is_named_where_it_is_read(
    labelled: ImageShards, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifests, "MOST_HASHED", 16)
    path = labelled.folder / "train.index.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    index = ImageShards.open(labelled.folder).index("train")
    assert index.read(0).key == "0000000"
    with pytest.raises(
        UserError, match=r"train\.index\.npy was changed in the records of tar 000003: run `dvc"
    ):
        index.read(11)


def test_a_changed_name_of_a_source_is_named_where_it_is_read(
    labelled: ImageShards, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifests, "MOST_HASHED", 16)
    path = labelled.folder / "val.sources.txt"
    path.write_bytes(path.read_bytes().replace(b".png", b".jpg", 1))
    with pytest.raises(UserError, match=r"val\.sources\.txt was changed in the names of tar 000000"):
        list(ImageShards.open(labelled.folder).index("val").rows())


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("val.index.npy", b"", r"val\.index\.npy is missing or empty"),
        ("val.index.npy", b"\x93NUMPY\x01\x00", r"val\.index\.npy is damaged"),
        ("val.tars.npy", b"PK\x03\x04", r"val\.tars\.npy is damaged"),
    ],
)
def test_a_file_that_is_no_index_is_named(
    labelled: ImageShards, name: str, data: bytes, message: str
) -> None:
    (labelled.folder / name).write_bytes(data)
    with pytest.raises(UserError, match=message + r".*: run `dvc repro shard`"):
        labelled.index("val")


def test_an_index_of_other_records_or_other_tars_is_named(labelled: ImageShards) -> None:
    np.save(labelled.folder / "val.index.npy", np.arange(4))
    with pytest.raises(UserError, match=r"val\.index\.npy holds records of another form"):
        labelled.index("val")
    write_index(labelled.folder, "train", rows_of(labelled, "train"), [4, 3, 3, 2])
    with pytest.raises(UserError, match=r"train\.tars\.npy puts samples into other tars than its manifest"):
        labelled.index("train")


def test_shards_with_an_index_of_lines_are_named_with_what_makes_them_again(labelled: ImageShards) -> None:
    (labelled.folder / "train.index.npy").rename(labelled.folder / "train.index.jsonl")
    write_manifest(labelled.folder, "image-shards", asdict(labelled.facts), {})
    with pytest.raises(
        UserError, match=r"has no train\.index\.npy: an earlier version made it.*dvc repro shard"
    ):
        ImageShards.open(labelled.folder)


def test_few_tars_stay_open_and_reading_on_gives_the_same(
    labelled: ImageShards, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images_reading, "MOST_OPEN", 2)
    index = labelled.index("train")
    before = len(os.listdir("/proc/self/fd"))
    first = [index.read(number) for number in range(12)]
    assert len(os.listdir("/proc/self/fd")) <= before + 2
    again = [index.read(number) for number in reversed(range(12))]
    assert all(same(one, other) for one, other in zip(first, reversed(again), strict=True))
    index.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_an_index_goes_to_another_process_as_a_path(labelled: ImageShards) -> None:
    index = labelled.index("train")
    data = pickle.dumps(index)
    assert len(data) < 1000
    copy: ImageIndex = pickle.loads(data)
    assert same(copy.read(7), index.read(7))


def test_what_is_given_back_is_read_again(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(100_000))
    mapped = MappedArray(tmp_path / "a.npy")
    assert mapped.array.sum() == 100_000 * 99_999 // 2
    before = _resident(tmp_path / "a.npy")
    mapped.forget(0, 100_000)
    assert _resident(tmp_path / "a.npy") < before // 10
    assert mapped.array.sum() == 100_000 * 99_999 // 2


def _resident(path: Path) -> int:
    """KiB of a mapped file that count as this process's memory."""
    lines = Path("/proc/self/smaps").read_text().splitlines()
    at = next(number for number, line in enumerate(lines) if line.endswith(str(path)))
    return next(int(line.split()[1]) for line in lines[at:] if line.startswith("Rss:"))


def test_an_index_that_was_not_finished_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), IndexWriter(tmp_path, "train", ["png"], 4, 2):
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_of_the_names_of_the_files_of_an_index_the_manifest_knows_which_may_be_large() -> None:
    assert {name.endswith(manifests.MAPPED) for name in index_files("train")[::2]} == {True}
    assert not index_files("train")[1].endswith(manifests.MAPPED)  # the table that the others are checked by
