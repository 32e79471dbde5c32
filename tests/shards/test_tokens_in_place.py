"""Laws of token shards that are read in place: the same rows as in memory, nothing copied, damage named when it is met."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.token_making.writing import write_token_manifest
from shards.tokens import MappedTokens, TokenShards, TokenSplit
from shards.tokens import reading as tokens_reading
from tests.shards.random_tokens import USUAL, Kind, Written, kinds, write
from workspace.errors import UserError


@given(kind=kinds(), data=st.data())
def test_rows_read_in_place_are_those_in_memory(
    tmp_path_factory: pytest.TempPathFactory, kind: Kind, data: st.DataObject
) -> None:
    shards = TokenShards.open(write(tmp_path_factory.mktemp("tokens"), kind).folder)
    whole, mapped = shards.load("train"), shards.mapped("train")
    asked = np.array(data.draw(st.lists(st.integers(0, len(whole) - 1), min_size=1, max_size=20)))
    for one, other in zip(vars(whole.rows(asked)).values(), vars(mapped.rows(asked)).values(), strict=True):
        np.testing.assert_array_equal(one, other)
        assert (one is None) == (other is None)


def test_a_set_of_more_than_2_to_the_20_images_is_read_in_place(
    usual: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = TokenShards.open(usual.folder)
    assert isinstance(shards.split("train"), TokenSplit)
    monkeypatch.setattr(tokens_reading, "MOST_IN_MEMORY", 3)
    assert isinstance(shards.split("train"), MappedTokens) and isinstance(shards.split("val"), TokenSplit)
    older = replace(shards, facts=replace(shards.facts, shards=None))
    assert isinstance(older.split("train"), TokenSplit)


def test_arrays_read_in_place_are_not_copied(usual: Written) -> None:
    mapped = TokenShards.open(usual.folder).mapped("train")
    mapped.rows(np.array([0]))
    codes = mapped._tars[0].blocks[0].codes
    assert not codes.flags.owndata and not codes.flags.writeable and codes.ctypes.data % 64 == 0


@pytest.mark.parametrize("place", [600, 1100, -2000])
def test_a_changed_tar_is_named_when_a_row_of_it_is_read_in_place(usual: Written, place: int) -> None:
    mapped = TokenShards.open(usual.folder).mapped("train")
    path = usual.folder / "train" / "000001.tar"
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    assert len(mapped.rows(np.array([0, 1])).codes) == 2
    with pytest.raises(
        UserError, match=r"train/000001\.tar was changed: its SHA-256 .* run `dvc repro tokenize`"
    ):
        mapped.rows(np.array([0, 5]))
    path.unlink()
    with pytest.raises(UserError, match=r"train/000001\.tar is missing or empty"):
        mapped.rows(np.array([5]))


def test_a_code_beyond_the_codebook_is_named_when_read_in_place(tmp_path: Path) -> None:
    made = write(tmp_path, USUAL, lambda block: replace(block, codes=block.codes + np.uint16(7)))
    mapped = TokenShards.open(made.folder).mapped("train")
    with pytest.raises(UserError, match=r"000001\.tar, block 0: code \d+ is not below K = 7"):
        mapped.rows(np.array([4]))


def test_tars_that_do_not_add_up_to_the_counts_are_named(usual: Written) -> None:
    write_token_manifest(usual.folder, replace(usual.facts, counts={"train": 7, "val": 3}), {})
    with pytest.raises(UserError, match=r"split train: 6 images in its tars, but its manifest says 7"):
        TokenShards.open(usual.folder).mapped("train")
