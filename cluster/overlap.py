"""Reading ahead: decoding in a thread while the caller computes."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")
AHEAD = 2
_END: Any = object()


def ahead(items: Iterable[T], depth: int = AHEAD) -> Iterator[T]:
    """The items, in order, each made in one other thread while the caller works on those before it.

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
