"""Reading ahead: decoding in threads while the caller computes."""

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
    """The items, in order, produced by one other thread while the caller works on earlier ones.

    Decoding, PNG compression and a device's work leave Python's lock free, so they overlap.

    Args:
        items: a generator, typically; what it raises is raised here, at its place.
        depth: items made before they are asked for, at most.
    """
    iterator = iter(items)
    with ThreadPoolExecutor(1, "ahead") as thread:
        waiting: deque[Future[T]] = deque(thread.submit(next, iterator, _END) for _ in range(depth))
        while (item := waiting.popleft().result()) is not _END:
            waiting.append(thread.submit(next, iterator, _END))
            yield item


def made_ahead(make: Callable[[T], Made], items: Iterable[T], threads: int) -> Iterator[Made]:
    """`make` of each item, in order, in several other threads while the caller works on earlier ones.

    Args:
        make: called from several threads at once; what it raises is raised here, at its item's place.
        items: taken one at a time, in their order.
        threads: how many; 0 is one as well, since the caller is never kept waiting without need.
    """
    if threads <= 1:
        yield from ahead(map(make, items))  # that thread takes the items too
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
