"""`shards.verify` keeps a block in memory, whatever the number of images; a key that appears twice is still found."""

import tempfile
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards import verify as module
from shards.token_making.writing import write_token_manifest, write_token_shard
from shards.tokens import TokenShards
from shards.verify import KeysSeen, verify_tokens
from tests.shards.random_tokens import USUAL, Kind, block_of, facts_of, write
from workspace.errors import UserError

KEYS = st.lists(st.text("ab€", max_size=3), max_size=30)


def twice(keys: list[str], first: int) -> str:
    """What is told of keys that are added in two parts."""
    with tempfile.TemporaryFile() as file:
        seen = KeysSeen(file)
        seen.add(keys[:first])
        seen.add(keys[first:])
        try:
            seen.check(iter(keys), "here", "run it")
        except UserError as error:
            return str(error)
    return ""


@given(KEYS, st.integers(0, 30))
def test_a_key_that_appears_twice_is_found_and_no_other(keys: list[str], first: int) -> None:
    told = twice(keys, first)
    assert bool(told) == (len(set(keys)) < len(keys))
    if told:
        named = told.removeprefix("here: the key ").removesuffix(" appears twice: run it")
        assert keys.count(named) > 1


@given(KEYS)
def test_keys_of_the_same_eight_bytes_are_compared_as_they_are(keys: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_digest", lambda key: bytes([len(key)] * 8))
        patch.setattr(module, "MOST_AT_ONCE", 3)
        assert bool(twice(keys, 1)) == (len(set(keys)) < len(keys))


def test_the_memory_of_a_check_does_not_grow_with_the_tokens(tmp_path: Path) -> None:
    kind, peaks = Kind(images=50, kept=400, length=1000, codes=64, classes=True, captions=0), []
    for tars in (2, 12):
        folder = tmp_path / str(tars)
        for number in range(tars):
            write_token_shard(folder / "train" / f"{number:06d}.tar", [block_of(kind, f"{number}-")])
        write_token_shard(folder / "val" / "000000.tar", [block_of(kind, "v")])
        sizes = {"train": (50,) * tars, "val": (50,)}
        facts = replace(
            facts_of(kind), counts={name: sum(found) for name, found in sizes.items()}, shards=sizes
        )
        write_token_manifest(folder, facts, {"mqvae": facts.mqvae})
        shards = TokenShards.open(folder)
        tracemalloc.start()
        assert f"{50 * tars:,} train, 50 val images are intact" in verify_tokens(shards)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0], peaks


def test_tars_with_other_numbers_of_images_than_the_manifest_says_are_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "tokens", USUAL).folder
    facts = replace(facts_of(USUAL), shards={"train": (2, 4), "val": (3,)})
    (folder / "manifest.json").unlink()
    write_token_manifest(folder, facts, {"mqvae": facts.mqvae})
    with pytest.raises(UserError, match=r"train/000000.tar: 3 images, but its manifest says 2"):
        verify_tokens(TokenShards.open(folder))
