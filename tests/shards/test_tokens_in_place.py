"""Laws of token shards that are read in place: the same rows as in memory, nothing copied, damage named when it is met."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shards.token_making.writing import write_token_manifest, write_token_shard
from shards.tokens import MappedTokens, TokenShards, TokenSplit
from shards.tokens import reading as tokens_reading
from tests.shards.random_tokens import USUAL, Kind, Written, facts_of, kinds, write
from tests.shards.test_ragged_tokens import LENGTH, block_of
from tests.training.test_stackformer_training import CLASSES, TRAINING, OneOf
from training.stackformer.batches import WINDOW, TokenBatches
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


@given(
    lengths=st.lists(st.lists(st.integers(1, LENGTH), min_size=1, max_size=4), min_size=1, max_size=3),
    data=st.data(),
)
def test_rows_of_different_lengths_read_in_place_are_those_in_memory(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[list[int]], data: st.DataObject
) -> None:
    shards = ragged(tmp_path_factory.mktemp("tokens"), lengths)
    whole, mapped = shards.load("train"), shards.mapped("train")
    asked = np.array(data.draw(st.lists(st.integers(0, len(whole) - 1), min_size=1, max_size=20)))
    for one, other in zip(vars(whole.rows(asked)).values(), vars(mapped.rows(asked)).values(), strict=True):
        np.testing.assert_array_equal(one, other)
    flat = np.concatenate(lengths)
    assert whole.lengths_of(asked).tolist() == mapped.lengths_of(asked).tolist() == flat[asked].tolist()


def ragged(folder: Path, lengths: list[list[int]]) -> TokenShards:
    """A set of one tar per list, whose images have so many codes; one image to validate on."""
    for number, some in enumerate(lengths):
        write_token_shard(folder / "train" / f"{number:06d}.tar", [block_of(some, number, f"{number}-")])
    write_token_shard(folder / "val" / "000000.tar", [block_of([3])])
    sizes = {"train": tuple(map(len, lengths)), "val": (1,)}
    usual = facts_of(replace(USUAL, captions=0, sources=False))
    counts = {name: sum(found) for name, found in sizes.items()}
    facts = replace(usual, counts=counts, shards=sizes, fewest_kept=1, num_kept=LENGTH)
    write_token_manifest(folder, facts, {"mqvae": facts.mqvae})
    return TokenShards.open(folder)


def test_a_training_on_different_lengths_in_place_sees_each_image_once_an_epoch(tmp_path: Path) -> None:
    lengths = [[number % LENGTH + 1 for number in range(first, first + 16)] for first in range(0, 128, 16)]
    config = replace(
        CLASSES, num_codes=7, num_positions=LENGTH, num_kept=LENGTH, fewest_kept=1, condition_vocab=2
    )
    plan = TRAINING.replaced(global_batch=4, micro_batch=2)
    mapped = ragged(tmp_path, lengths).mapped("train")
    batches = TokenBatches(mapped, config, plan, OneOf())
    drawn = [batches._samples(step) for step in range(WINDOW)]  # one epoch
    assert sorted(index for batch in drawn for _, index in batch) == list(range(128))
    flat = np.concatenate(lengths)
    assert max(np.ptp(flat[[index for _, index in batch]]) for batch in drawn) <= 1  # of like lengths
    for step in (WINDOW + 3, 5):
        one, other = batches(step), TokenBatches(mapped, config, plan, OneOf())(step)
        assert all(torch.equal(a.codes_BN, b.codes_BN) for a, b in zip(one, other, strict=True))


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
