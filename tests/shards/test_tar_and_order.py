"""Laws of the tar files and of the order of training data."""

import tarfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workspace.errors import UserError
from workspace.exact.order import DataOrder, epoch_order
from workspace.exact.tar import TarWriter, iterate_tar

MEMBERS = [("a.png", b"\x00\x01" * 400), ("a.cls", b"3"), ("b.png", b""), ("b.txt", "grün\n×".encode())]


def write(path: Path, members: list[tuple[str, bytes]]) -> bytes:
    with TarWriter(path) as tar:
        for name, data in members:
            tar.add(name, data)
    return path.read_bytes()


def test_equal_members_give_equal_bytes_whatever_the_file_is_called(tmp_path: Path) -> None:
    assert write(tmp_path / "one.tar", MEMBERS) == write(tmp_path / "other.tar", MEMBERS)


def test_headers_hold_no_time_owner_or_umask(tmp_path: Path) -> None:
    write(tmp_path / "a.tar", MEMBERS)
    with tarfile.open(tmp_path / "a.tar") as tar:
        assert {(i.mtime, i.uid, i.gid, i.uname, i.gname, i.mode) for i in tar} == {(0, 0, 0, "", "", 0o644)}


@given(
    st.lists(
        st.tuples(
            st.from_regex(r"[a-c0-9]{1,9}(\.[a-z]{1,4}){1,2}", fullmatch=True), st.binary(max_size=1200)
        ),
        max_size=6,
    )
)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, members: list[tuple[str, bytes]]
) -> None:
    path = tmp_path_factory.mktemp("tar") / "a.tar"
    write(path, members)
    assert list(iterate_tar(path)) == members


def test_a_member_lies_at_the_offset_that_was_told(tmp_path: Path) -> None:
    with TarWriter(tmp_path / "a.tar") as tar:
        told = [tar.add(name, data) for name, data in MEMBERS]
    whole = (tmp_path / "a.tar").read_bytes()
    assert [whole[m.offset : m.offset + m.length] for m in told] == [data for _, data in MEMBERS]
    assert [m.name for m in told] == [name for name, _ in MEMBERS]


@pytest.mark.parametrize("cut", [0, 100, 512, 700, 1536, 1700, 2048, 2060, 2560, 3072, 4100, 4608])
def test_a_tar_that_was_cut_short_anywhere_is_noticed(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.tar"
    whole = write(path, MEMBERS)
    path.write_bytes(whole[:cut])
    with pytest.raises(UserError, match=r"a\.tar is (missing or damaged|truncated)"):
        list(iterate_tar(path))


def test_a_broken_header_in_the_middle_is_not_taken_for_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    whole = bytearray(write(path, MEMBERS))
    whole[512 + 1024 + 5] ^= 0xFF
    path.write_bytes(bytes(whole))
    with pytest.raises(UserError, match=r"a\.tar is truncated or damaged after a\.png"):
        list(iterate_tar(path))


def test_a_tar_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.tar is missing or damaged"):
        list(iterate_tar(tmp_path / "none.tar"))


SIZES = st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(lambda sizes: sum(sizes) > 0)


@given(st.integers(0, 99), st.integers(0, 9), SIZES, st.integers(1, 7))
def test_each_epoch_has_every_index_once(seed: int, epoch: int, sizes: list[int], group: int) -> None:
    order = epoch_order(seed, epoch, tuple(sizes), group)
    assert sorted(order.tolist()) == list(range(sum(sizes)))


@given(st.integers(0, 99), SIZES, st.integers(1, 7), st.integers(1, 8), st.integers(1, 12))
def test_batches_run_on_across_the_ends_of_epochs_and_leave_nothing_out(
    seed: int, sizes: list[int], group: int, batch: int, steps: int
) -> None:
    taken = [pair for step in range(steps) for pair in DataOrder(seed, sizes, group).batch(step, batch)]
    total = sum(sizes)
    assert [epoch for epoch, _ in taken] == [number // total for number in range(steps * batch)]
    whole = (steps * batch // total) * total
    assert set(Counter(taken).values()) == {1}
    assert Counter(index for _, index in taken[:whole]) == {
        index: whole // total for index in range(total) if whole
    }


@given(st.integers(0, 99), st.integers(0, 50))
def test_a_batch_is_a_function_of_seed_and_step_alone(seed: int, step: int) -> None:
    alone = DataOrder(seed, [5, 3, 7], 2).batch(step, 4)
    epoch_order.cache_clear()
    assert [DataOrder(seed, (5, 3, 7), 2).batch(s, 4) for s in range(step + 1)][-1] == alone


def test_the_batch_size_cuts_the_same_sequence_differently() -> None:
    small = [pair for step in range(6) for pair in DataOrder(3, [4, 4], 1).batch(step, 2)]
    large = [pair for step in range(2) for pair in DataOrder(3, [4, 4], 1).batch(step, 6)]
    assert small == large


def test_epochs_and_seeds_differ_in_their_order() -> None:
    orders = {tuple(epoch_order(seed, epoch, (40,), 1).tolist()) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


def test_members_of_a_group_stay_together_and_are_mixed() -> None:
    order = epoch_order(0, 0, (10,) * 6, 2)
    shards = order.reshape(3, 20) // 10
    assert all(len(set(row.tolist())) == 2 for row in shards)
    assert any(row.tolist() != sorted(row.tolist()) for row in shards)


def test_the_order_does_not_change_between_versions() -> None:
    """A resumed run reads the order anew: these numbers may never change."""
    assert DataOrder(0, [4, 4, 4], 2).batch(0, 6) == [(0, 1), (0, 10), (0, 11), (0, 2), (0, 9), (0, 3)]


def test_no_samples_are_an_error() -> None:
    with pytest.raises(ValueError, match="the shards hold no samples"):
        DataOrder(0, [0, 0], 1).batch(0, 4)
