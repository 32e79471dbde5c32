"""Reading ahead: threads decode while the caller computes."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, TypeVar

T = TypeVar("T")
Made = TypeVar("Made")
AHEAD = 2
_END: Any = object()


def ahead(items: Iterable[T], depth: int = AHEAD) -> Iterator[T]:
    """The items in order, produced by one thread while the caller works on earlier ones.

    They overlap because decoding, PNG compression and a device's work release Python's lock.

    Args:
        items: typically a generator; its exceptions are raised here, in the item's place.
        depth: most items produced ahead.
    """
    iterator = iter(items)
    with ThreadPoolExecutor(1, "ahead") as thread:
        waiting: deque[Future[T]] = deque(thread.submit(next, iterator, _END) for _ in range(depth))
        while (item := waiting.popleft().result()) is not _END:
            waiting.append(thread.submit(next, iterator, _END))
            yield item


def made_ahead(make: Callable[[T], Made], items: Iterable[T], threads: int) -> Iterator[Made]:
    """`make(item)` for each item, in order, computed by several threads while the caller works on earlier ones.

    Args:
        make: called from several threads at once; its exceptions are raised here, in the item's place.
        items: taken one at a time, in order.
        threads: number of threads; 0 uses one too, so that the caller does not wait for each item.
    """
    if threads <= 1:
        yield from ahead(map(make, items))  # the same thread also iterates over the items
        return
    iterator = iter(items)
    with ThreadPoolExecutor(threads, "ahead") as pool:
        waiting: deque[Future[Made]] = deque(
            pool.submit(make, item) for item in islice(iterator, threads - 1 + AHEAD)
        )
        while waiting:
            made = waiting.popleft().result()
            waiting.extend(pool.submit(make, item) for item in islice(iterator, 1))
            yield made
