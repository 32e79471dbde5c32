"""Laws of reading ahead: the same items in the same order, made while the caller works."""

import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.overlap import ahead


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
