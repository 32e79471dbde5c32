"""Laws of token shards: what is written is read; what is damaged is noticed."""

import shutil
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from shards.token_making.writing import pack_positions, write_token_manifest, write_token_shard
from shards.tokens import TokenFacts, TokenShards, check_block
from shards.tokens.blocks import ARRAYS, TokenBlock, read_token_shard, unpack_positions
from tests.shards.random_tokens import USUAL, Kind, Written, block_of, facts_of, joined, kinds, write
from workspace.errors import UserError
from workspace.exact.manifest import read_json, read_manifest, write_manifest


def assert_same(one: TokenBlock, other: TokenBlock) -> None:
    """Equal keys, values, dtypes, and the same members absent."""
    assert one.keys == other.keys and one.sources == other.sources
    for field, dtype in ARRAYS.items():
        mine, others = getattr(one, field), getattr(other, field)
        assert (mine is None) == (others is None), field
        if mine is not None:
            assert mine.dtype == others.dtype == dtype
            np.testing.assert_array_equal(mine, others)


@given(kind=kinds(), seed=st.integers(0, 1000))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, kind: Kind, seed: int) -> None:
    path = tmp_path_factory.mktemp("shard") / "000000.tar"
    blocks = [block_of(kind, "a", seed), block_of(kind, "b", seed)]
    write_token_shard(path, blocks)
    found = list(read_token_shard(path))
    assert len(found) == 2
    for one, other in zip(blocks, found, strict=True):
        assert_same(one, other)
        check_block(other, facts_of(kind), str(path))


@given(kind=kinds())
def test_a_split_is_loaded_whole_in_the_order_of_its_files(
    tmp_path_factory: pytest.TempPathFactory, kind: Kind
) -> None:
    made = write(tmp_path_factory.mktemp("tokens"), kind)
    shards = TokenShards.open(made.folder)
    assert shards.facts == made.facts and shards.facts.num_positions == kind.length
    split = shards.load("train")
    assert split.keys == made.train[0].keys + made.train[1].keys
    assert split.shard_sizes == (kind.images, kind.images)
    names = [block.sources for block in made.train]
    assert split.sources == (sum((name or () for name in names), ()) if kind.sources else None)
    for field in ARRAYS:
        if getattr(made.train[0], field) is not None:
            np.testing.assert_array_equal(getattr(split, field), joined(made.train, field))
    assert len(shards.load("val").keys) == kind.images


@given(kind=kinds(), seed=st.integers(0, 1000))
def test_positions_survive_the_bitmask_in_ascending_order(kind: Kind, seed: int) -> None:
    generator = np.random.default_rng(seed)
    positions_BN = np.stack([generator.permutation(kind.length)[: kind.kept] for _ in range(kind.images)])
    mask = pack_positions(positions_BN, kind.length)
    assert mask.shape == (kind.images, -(-kind.length // 8)) and mask.dtype == np.uint8
    np.testing.assert_array_equal(
        unpack_positions(mask, kind.length, kind.kept), np.sort(positions_BN, axis=1)
    )


@given(kind=kinds(), seed=st.integers(0, 1000))
def test_bit_l_of_the_mask_counted_from_the_high_end_is_cell_l_and_pad_bits_are_zero(
    kind: Kind, seed: int
) -> None:
    positions = np.random.default_rng(seed).permutation(kind.length)[: kind.kept]
    row = pack_positions(positions[None], kind.length)[0].tolist()
    for cell in range(8 * len(row)):
        assert row[cell // 8] >> (7 - cell % 8) & 1 == int(cell in positions)


@pytest.mark.parametrize(
    ("positions", "message"),
    [([[0, 13]], "0 … 13, expected 0 … 12"), ([[-1, 3]], "-1 … 3"), ([[5, 5]], "appears twice in an image")],
)
def test_positions_that_are_no_set_of_cells_are_not_packed(positions: list[list[int]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pack_positions(np.array(positions), 13)


def test_a_row_with_too_few_bits_is_not_unpacked() -> None:
    mask = pack_positions(np.array([[0, 3], [1, 2]]), 13)
    mask[1] = 0
    with pytest.raises(ValueError, match=r"row 1 of the bitmask has 0 bits set, expected N = 2"):
        unpack_positions(mask, 13, 2)


def test_the_same_blocks_give_the_same_bytes(tmp_path: Path, usual: Written) -> None:
    again = write(tmp_path / "again", USUAL)
    names = sorted(path.relative_to(usual.folder) for path in usual.folder.rglob("*") if path.is_file())
    assert len(names) == 6
    for name in names:
        assert (usual.folder / name).read_bytes() == (again.folder / name).read_bytes(), name
    fingerprints = {read_manifest(made.folder, "token-shards").fingerprint for made in (usual, again)}
    assert len(fingerprints) == 1


def with_(
    field: str, change: Callable[[NDArray[Any]], NDArray[Any] | None]
) -> Callable[[TokenBlock], TokenBlock]:
    """A block whose member `field` is changed."""
    return lambda block: replace(block, **{field: change(getattr(block, field).copy())})


def put(value: int, *index: int) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """An array with one element replaced."""

    def change(array: NDArray[Any]) -> NDArray[Any]:
        array[index] = value
        return array

    return change


def pad_bit(mask: NDArray[Any]) -> NDArray[Any]:
    """The last bit, beyond L, set."""
    mask[1, -1] |= 1
    return mask


def short_row(mask: NDArray[Any]) -> NDArray[Any]:
    """Row 2 without its first kept cell."""
    byte = int(np.flatnonzero(mask[2])[0])
    mask[2, byte] &= mask[2, byte] - 1
    return mask


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_("codes", put(7, 1, 2)), r"code 7 is not below K = 7"),
        (with_("codes", lambda codes: codes[:, :-1]), r"codes \(3, 3\) do not have N = 4 columns"),
        (
            with_("codes", lambda codes: codes[:-1]),
            r"codes.npy has shape \(2, 4\); expected 3 rows",
        ),
        (with_("kept", pad_bit), r"a pad bit of kept is set, beyond L = 13"),
        (with_("kept", short_row), r"row 2 of kept has 3 positions, not N = 4"),
        (with_("kept", lambda mask: mask[:, :1]), r"kept \(3, 1\) does not have 2 bytes per row"),
        (with_("cls", put(2, 0)), r"class 2 is not one of 2"),
        (with_("cls", lambda cls: None), r"classes are not where the manifest says"),
        (with_("text", put(300, 0, 0, 0)), r"text code 300 is not below 300"),
        (with_("text", lambda text: text[:, :, :4]), r"text \(3, 2, 4\) does not have N_c = 5"),
        (with_("text", lambda text: text[:, :1].repeat(3, axis=1)), r"different numbers of captions"),
        (with_("text", lambda text: None), r"captions are not where the manifest says"),
        (lambda block: replace(block, sources=None), r"sources are not where the manifest says"),
        (lambda block: replace(block, sources=("a", "b")), r"sources.json has 2 names; expected 3"),
        (with_("caption_count", put(3, 0)), r"3 captions are counted where there is room for 2"),
        (
            lambda block: replace(block, keys=("b000", "a001", "b002")),
            r"split train: the key a001 appears twice",
        ),
    ],
)
def test_a_block_that_does_not_fit_the_facts_is_refused(
    tmp_path: Path, change: Callable[[TokenBlock], TokenBlock], message: str
) -> None:
    made = write(tmp_path, USUAL, change)
    with pytest.raises(UserError, match=message) as raised:
        TokenShards.open(made.folder).load("train")
    told = str(raised.value)
    assert "train" in told and "\n" not in told
    if "split train" not in told:
        assert "000001.tar" in told and ("block 0" in told or "000001_00000" in told)
    assert len(TokenShards.open(made.folder).load("val").keys) == 3


def test_another_count_than_the_manifest_states_is_refused(usual: Written) -> None:
    write_token_manifest(usual.folder, replace(usual.facts, counts={"train": 7, "val": 3}), {})
    with pytest.raises(UserError, match=r"split train: 6 images, but its manifest says 7"):
        TokenShards.open(usual.folder).load("train")


def test_a_missing_shard_is_named_when_the_data_set_is_opened(usual: Written) -> None:
    (usual.folder / "train" / "000001.tar").unlink()
    with pytest.raises(UserError, match=r"000001\.tar is missing.*dvc repro tokenize"):
        TokenShards.open(usual.folder)


@given(place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_a_flipped_byte_anywhere_in_a_shard_is_noticed(
    tmp_path_factory: pytest.TempPathFactory, place: float, flip: int
) -> None:
    folder = tmp_path_factory.mktemp("flipped") / "tokens"
    made = write(folder, USUAL)
    path = made.folder / "train" / "000001.tar"
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= flip
    path.write_bytes(bytes(data))
    with pytest.raises(UserError, match=r"train/000001\.tar was changed: SHA-256"):
        TokenShards.open(folder).load("train")
    shutil.rmtree(folder)


@given(place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_a_damaged_tar_read_by_itself_gives_blocks_or_an_error_in_words(
    tmp_path_factory: pytest.TempPathFactory, place: float, flip: int
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "000000.tar"
    write_token_shard(path, [block_of(USUAL, "a")])
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= flip
    path.write_bytes(bytes(data))
    told, blocks = str(path), list[TokenBlock]()
    try:
        blocks = list(read_token_shard(path))
    except UserError as error:
        told = str(error)
    assert str(path) in told and "\n" not in told
    assert all(block.codes.dtype == np.uint16 for block in blocks)


@pytest.mark.parametrize("missing", ["codes.npy", "kept.npy", "keys.json"])
def test_a_block_that_lacks_a_member_is_named(tmp_path: Path, missing: str) -> None:
    from workspace.exact.tar import TarWriter, iterate_tar

    whole, part = tmp_path / "000000.tar", tmp_path / "000001.tar"
    write_token_shard(whole, [block_of(USUAL, "a")])
    with TarWriter(part) as tar:
        for name, data in iterate_tar(whole):
            if not name.endswith(f".{missing}"):
                tar.add(name, data)
    with pytest.raises(UserError, match=rf"000001\.tar: the block 000000_00000 lacks {missing}"):
        list(read_token_shard(part))


def test_an_object_array_is_never_unpickled(tmp_path: Path) -> None:
    import io

    from workspace.exact.tar import TarWriter

    made = io.BytesIO()
    np.save(made, np.array([{}]), allow_pickle=True)
    with TarWriter(tmp_path / "000000.tar") as tar:
        tar.add("a.codes.npy", made.getvalue())
        tar.add("a.kept.npy", made.getvalue())
        tar.add("a.keys.json", b'["k"]')
    with pytest.raises(UserError, match=r"a\.codes\.npy is object, expected uint16"):
        list(read_token_shard(tmp_path / "000000.tar"))


def test_an_image_of_768_codes_takes_what_the_design_counts() -> None:
    block = block_of(Kind(images=1, kept=768, length=1024, codes=1024, classes=False, captions=0), "a")
    assert block.codes.nbytes + block.kept.nbytes == 1664


def test_a_set_of_before_there_were_sources_is_read(tmp_path: Path) -> None:
    made = write(tmp_path / "tokens", replace(USUAL, sources=False))
    manifest = read_json(made.folder / "manifest.json")
    assert manifest["facts"].pop("sources") is False and "sources.json" not in manifest["facts"]["members"]
    write_manifest(made.folder, "token-shards", manifest["facts"], manifest["made_from"])
    shards = TokenShards.open(made.folder)
    assert shards.facts == made.facts and shards.load("train").sources is None


def test_facts_come_back_from_the_manifest_as_they_were(usual: Written) -> None:
    found = TokenFacts.from_json(read_json(usual.folder / "manifest.json")["facts"])
    assert found == usual.facts
    assert {field.name: type(getattr(found, field.name)) for field in fields(found)} == {
        field.name: type(getattr(usual.facts, field.name)) for field in fields(usual.facts)
    }
