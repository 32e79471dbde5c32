"""Laws of token sets whose images have different numbers of codes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.describe import describe
from shards.pack_tokens import pack
from shards.token_making.writing import pack_flat, write_token_shard
from shards.token_sets import Choice, merge, subset, taken
from shards.tokens import TokenShards, check_block, flat_positions, read_token_shard
from shards.tokens.blocks import TokenBlock, joined_offsets, offsets_of
from shards.verify import verify
from tests.shards.random_tokens import USUAL, facts_of, write
from workspace.errors import UserError

LENGTH = 13


def block_of(lengths: list[int], seed: int = 0, name: str = "a") -> TokenBlock:
    """A random block of images with so many codes, of two classes."""
    generator = np.random.default_rng(seed)
    places = [np.sort(generator.permutation(LENGTH)[:count]) for count in lengths]
    return TokenBlock(
        tuple(f"{name}{number:03d}" for number in range(len(lengths))),
        generator.integers(7, size=sum(lengths)).astype(np.uint16),
        pack_flat(np.concatenate(places), np.array(lengths), LENGTH),
        generator.integers(2, size=len(lengths)).astype(np.uint16),
        None,
        None,
        offsets=offsets_of(np.array(lengths)),
    )


def packed(folder: Path, name: str, images: int, seed: int) -> TokenShards:
    """A set of random images, packed from arrays on disk."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(1, LENGTH + 1, images)
    arrays = {
        "codes": generator.integers(7, size=lengths.sum()),
        "positions": np.concatenate([generator.permutation(LENGTH)[:count] for count in lengths]),
        "offsets": offsets_of(lengths),
        "labels": np.arange(images) % 2,
    }
    paths = {field: folder / f"{name}.{field}.npy" for field in arrays}
    for field, array in arrays.items():
        np.save(paths[field], array)
    codes, positions = paths.pop("codes"), paths.pop("positions")
    pack(codes, positions, folder / name, (1, LENGTH), 7, val_fraction=0.3, **paths)
    return TokenShards.open(folder / name)


@given(lengths=st.lists(st.integers(1, LENGTH), min_size=1, max_size=6), seed=st.integers(0, 99))
def test_what_is_written_is_read_and_nothing_is_padded(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], seed: int
) -> None:
    path = tmp_path_factory.mktemp("shard") / "000000.tar"
    block = block_of(lengths, seed)
    write_token_shard(path, [block])
    (found,) = read_token_shard(path)
    assert found.codes.shape == (sum(lengths),) and found.lengths.tolist() == lengths
    np.testing.assert_array_equal(found.codes, block.codes)
    np.testing.assert_array_equal(
        pack_flat(flat_positions(found.kept, LENGTH), found.lengths, LENGTH), block.kept
    )


@given(lengths=st.lists(st.integers(1, LENGTH), min_size=1, max_size=6), data=st.data())
def test_images_that_are_taken_keep_their_codes_in_any_order(lengths: list[int], data: st.DataObject) -> None:
    block = block_of(lengths)
    rows = np.array(data.draw(st.lists(st.integers(0, len(lengths) - 1), max_size=5)), np.int64)
    part = taken(block, rows)
    for number, row in enumerate(rows):
        np.testing.assert_array_equal(part.codes_of(number), block.codes_of(row))
    assert part.offsets is not None and part.offsets[-1] == len(part.codes)


def test_packed_images_are_there_whole_in_raster_order(tmp_path: Path) -> None:
    made = packed(tmp_path, "tokens", 40, 0)
    codes, places, ends = (
        np.load(tmp_path / f"tokens.{name}.npy") for name in ("codes", "positions", "offsets")
    )
    seen = 0
    for split in ("train", "val"):
        block = made.load(split)
        positions = flat_positions(block.kept, LENGTH)
        for row, key in enumerate(block.keys):
            image = slice(ends[int(key)], ends[int(key) + 1])
            mine = slice(block.offsets[row], block.offsets[row + 1])  # type: ignore[index]
            order = np.argsort(places[image])
            np.testing.assert_array_equal(block.codes_of(row), codes[image][order])
            np.testing.assert_array_equal(positions[mine], places[image][order])
            seen += 1
    assert seen == 40 and made.facts.kept_words == f"{np.diff(ends).min()} … {np.diff(ends).max()}"
    assert f"N = {made.facts.kept_words} of L = {LENGTH}" in verify(tmp_path / "tokens")
    assert "codes per image in its first block" in describe(tmp_path / "tokens")


def test_sets_merge_whatever_their_lengths_and_subsets_are_sets(tmp_path: Path) -> None:
    one, two = packed(tmp_path, "one", 30, 1), packed(tmp_path, "two", 20, 2)
    for shards in (one, two):  # made by one MQ-VAE, as far as their manifests know
        assert shards.facts.mqvae == one.facts.mqvae
    merge([one.folder, two.folder], tmp_path / "both")
    both = TokenShards.open(tmp_path / "both")
    for split in ("train", "val"):
        parts = [one.load(split), two.load(split)]
        whole = both.load(split)
        np.testing.assert_array_equal(whole.codes, np.concatenate([part.codes for part in parts]))
        np.testing.assert_array_equal(whole.offsets, joined_offsets(parts))
    subset(both.folder, tmp_path / "cats", Choice(classes=("0000",), count=6))
    cats = TokenShards.open(tmp_path / "cats")
    assert cats.facts.classes == ("0000",) and cats.facts.counts["train"] == 6
    assert (cats.facts.fewest_kept or 0) >= (both.facts.fewest_kept or 0)
    fixed = write(tmp_path / "fixed", USUAL)
    with pytest.raises(UserError, match=r"has N 1 … 13, .* has 4: they cannot be merged"):
        merge([one.folder, fixed.folder], tmp_path / "no")


def test_the_lines_in_the_readme_give_each_images_codes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = packed(tmp_path, "tokens", 40, 3)
    text = (made.folder / "README.md").read_text(encoding="utf-8")
    monkeypatch.chdir(made.folder)
    found: dict[str, Any] = {}
    exec(text.split("```python\n")[1].split("```")[0], found)
    split = made.load("train")
    for name in ("codes", "offsets"):
        np.testing.assert_array_equal(found[name], getattr(split, name))
    np.testing.assert_array_equal(found["positions"], flat_positions(split.kept, LENGTH))
    assert "codes[offsets[i] : offsets[i + 1]]" in text


def test_sets_of_one_n_say_nothing_of_offsets(tmp_path: Path) -> None:
    made = write(tmp_path, USUAL)
    shards = TokenShards.open(made.folder)
    assert (
        "fewest_kept" not in shards.manifest.facts and "offsets.npy" not in shards.manifest.facts["members"]
    )
    assert "offsets" not in (made.folder / "README.md").read_text(encoding="utf-8")
    assert shards.load("train").offsets is None


@pytest.mark.parametrize(
    ("offsets", "message"),
    [
        ([0, 3, 5], "does not ascend from 0 to 6"),
        ([0, 0, 6], "does not ascend from 0 to 6"),
        ([1, 3, 6], "does not ascend from 0 to 6"),
        ([0, 6], "expected 3 offsets"),
    ],
)
def test_offsets_that_do_not_part_the_codes_are_named(
    tmp_path: Path, offsets: list[int], message: str
) -> None:
    path = tmp_path / "000000.tar"
    write_token_shard(path, [replace(block_of([2, 4]), offsets=np.array(offsets))])
    with pytest.raises(UserError, match=message):
        list(read_token_shard(path))


@pytest.mark.parametrize(
    ("lengths", "shown", "message"),
    [
        ([3, 3], [2, 4], "row 0 of kept has 2 positions, not N = 3"),
        ([1, 5], None, "image 0 has 1 codes, not N = 2 … 5"),
        ([2, 6], None, "image 1 has 6 codes, not N = 2 … 5"),
    ],
)
def test_a_block_that_does_not_fit_its_facts_is_named(
    lengths: list[int], shown: list[int] | None, message: str
) -> None:
    facts = replace(
        facts_of(USUAL), num_kept=5, fewest_kept=2, text_length=None, text_vocab=None, sources=False
    )
    block = block_of(lengths)
    if shown is not None:
        block = replace(block, kept=block_of(shown).kept)
    with pytest.raises(UserError, match=message):
        check_block(block, facts, "block 0")
    with pytest.raises(UserError, match="offsets are not where the manifest says"):
        check_block(block, replace(facts, fewest_kept=None), "block 0")


@pytest.mark.parametrize(
    ("offsets", "message"),
    [
        ([0, 2, 7], "offsets 7 at"),
        ([0, 4, 2, 6], "does not ascend"),
        ([0, 6.0], "whole numbers"),
    ],
)
def test_offsets_of_arrays_made_elsewhere_are_checked(
    tmp_path: Path, offsets: list[float], message: str
) -> None:
    for name, values in (("codes", [1] * 6), ("positions", [0, 1, 2, 3, 0, 1]), ("offsets", offsets)):
        np.save(tmp_path / f"{name}.npy", np.array(values))
    names = (tmp_path / "codes.npy", tmp_path / "positions.npy")
    with pytest.raises(UserError, match=message):
        pack(*names, tmp_path / "out", (1, LENGTH), 7, offsets=tmp_path / "offsets.npy")
