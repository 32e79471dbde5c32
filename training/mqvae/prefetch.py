"""Fetches the tars of the group that comes next in the order of the epoch, while steps read the present one."""

import threading
from collections import OrderedDict
from collections.abc import Callable

from shards.images import tar_name
from shards.mixture.images import MixedIndex
from workspace.errors import UserError


class Prefetch:
    """Walks ahead in the order of training data and fetches tars into the node's cache, in a thread of this process.

    It stays at most one group of tars ahead of the step that is being trained, and within half of the cache, so that it does not
    push out what is being read.

    Args:
        images: the training images; tars of sets with a home at a URL are fetched.
        batch: step, images per step → the (epoch, index) of each sample, as `images` numbers them.
        group: number of tars whose samples are mixed.
        global_batch: images per step, of all workers: those of a node share its cache.
        steps: the last step + 1.
    """

    def __init__(
        self,
        images: MixedIndex,
        batch: Callable[[int, int], list[tuple[int, int]]],
        group: int,
        global_batch: int,
        steps: int,
    ) -> None:
        self.images, self.batch, self.group = images, batch, group
        self.global_batch, self.steps = global_batch, steps
        self._now = 0
        self._moved = threading.Condition()
        self._last: OrderedDict[tuple[int, int], int] = OrderedDict()

    def start(self, step: int) -> None:
        """Begin at a step; call it after loader processes were forked, which would copy the thread's locks."""
        self._now = step
        threading.Thread(target=self._run, args=(step,), daemon=True, name="prefetch").start()

    def at(self, step: int) -> None:
        """Say which step is being read."""
        with self._moved:
            self._now = step
            self._moved.notify()

    def _run(self, first: int) -> None:
        for step in range(first, self.steps):
            for number, tar in self._new_tars(step):
                index = self.images.indices[number]
                wanted = index.home.wanted(tar_name(index.split, tar))
                most = index.home.cache.most_bytes // 2
                with self._moved:
                    while not self._has_room(wanted.size, most):
                        self._moved.wait()
                    self._last[number, tar] = step
                    while len(self._last) > 2 * self.group:
                        self._last.popitem(last=False)
                try:
                    index.home.cache.held(wanted).close()
                except (UserError, OSError):
                    return  # the loader that needs the tar meets the same error, and reports it

    def _new_tars(self, step: int) -> list[tuple[int, int]]:
        """The far tars of a step's samples that were not fetched lately, each with its set, in the order of the samples."""
        found = dict.fromkeys(self._tar_of(index) for _, index in self.batch(step, self.global_batch))
        new = (place for place in found if place not in self._last)
        return [place for place in new if self.images.indices[place[0]].home.is_far]

    def _tar_of(self, index: int) -> tuple[int, int]:
        number, own = self.images.place(index)
        return number, self.images.indices[number].table.tar_of(own)

    def _has_room(self, size: int, most: int) -> bool:
        """Whether another tar may be fetched: fewer than a group were first needed after the present step."""
        ahead = sum(step > self._now for step in self._last.values())
        return ahead == 0 or (ahead < self.group and (ahead + 1) * size <= most)
