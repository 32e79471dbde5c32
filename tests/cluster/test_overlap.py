"""Laws of reading ahead: the same items in the same order, made while the caller works."""

import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.overlap import ahead, made_ahead


@given(items=st.lists(st.none() | st.integers(), max_size=20), depth=st.integers(1, 5))
def test_the_items_come_in_order_whatever_the_depth(items: list[int | None], depth: int) -> None:
    assert list(ahead(items, depth)) == items


def test_the_next_item_is_made_while_the_caller_holds_this_one() -> None:
    made = [threading.Event() for _ in range(4)]

    def source() -> Iterator[int]:
        for number, event in enumerate(made):
            event.set()
            yield number

    stream = ahead(source(), depth=2)
    assert next(stream) == 0
    assert made[1].wait(10) and made[2].wait(10)
    assert not made[3].wait(0.05)
    assert list(stream) == [1, 2, 3]


def test_what_the_source_raises_is_raised_at_its_place() -> None:
    def source() -> Iterator[int]:
        yield 1
        raise KeyError("second")

    stream = ahead(source())
    assert next(stream) == 1
    with pytest.raises(KeyError, match="second"):
        next(stream)


def test_a_caller_that_stops_early_leaves_no_thread() -> None:
    before = threading.active_count()
    stream = ahead(iter(range(100)))
    assert next(stream) == 0
    stream.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


@given(items=st.lists(st.integers(), max_size=20), threads=st.integers(0, 4))
def test_what_several_threads_make_comes_in_the_order_of_the_items(items: list[int], threads: int) -> None:
    assert list(made_ahead(lambda item: item + 1, items, threads)) == [item + 1 for item in items]


def test_several_items_are_made_at_once_and_few_are_taken_ahead() -> None:
    together = threading.Barrier(3)
    taken = []

    def source() -> Iterator[int]:
        for number in range(6):
            taken.append(number)
            yield number

    def make(item: int) -> int:
        together.wait(10)
        return item

    stream = made_ahead(make, source(), threads=3)
    assert next(stream) == 0
    assert len(taken) == 5  # three at work, one ready, and the one that took the place of the first
    assert list(stream) == [1, 2, 3, 4, 5]


def test_what_is_raised_in_a_thread_is_raised_at_its_items_place() -> None:
    stream = made_ahead(lambda item: 1 // item, [1, 0, 1], threads=2)
    assert next(stream) == 1
    with pytest.raises(ZeroDivisionError):
        next(stream)
