"""Micro-batches of images, read by offset, in an order that depends only on (seed, step).

Shapes: C = 3, H and W pixels.
"""

import tempfile
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from settings.mqvae import MQVAESettings
from shards.images import ImageShards
from shards.images.pixels import to_float
from shards.mixture.images import MixedIndex, Mixture
from training.loop.train import Workers
from training.mqvae.module import ImageBatch
from training.mqvae.prefetch import Prefetch
from workspace.errors import UserError, first_line
from workspace.exact.seeds import sample_seed

DIED = "DataLoader worker"
"""How torch begins its errors about a loader process that is gone."""
LONGEST_TMPDIR = 70
"""Characters: multiprocessing adds `/pymp-XXXXXXXX/listener-XXXXXXXX`, 32 of them."""
GROUP = 16
"""Number of shards whose samples are shuffled together; few, to keep reads by offset local."""


def keep_sockets_short(worker: int) -> None:
    """In a loader process: put the sockets by which it hands over tensors where their paths, of at most 107 characters, fit.

    They go below TMPDIR, which batch systems make long; the training would wait for ever for its first images.
    """
    if len(tempfile.gettempdir()) > LONGEST_TMPDIR:
        tempfile.tempdir = "/tmp"


def augment(image_CHW: Tensor, seed: int, epoch: int, index: int, flip: bool) -> Tensor:
    """Flip an image left to right with probability 1/2, keyed by (seed, epoch, index)."""
    if flip and sample_seed(seed, epoch, index, "flip") % 2:
        return image_CHW.flip(-1)
    return image_CHW


def held_out(shards: ImageShards, count: int) -> Tensor:
    """The first validation images, [n, 3, H, W] in [-1, 1]."""
    index = shards.index("val")
    return torch.stack(
        [torch.from_numpy(to_float(index.read(i).image)) for i in range(min(count, len(index)))]
    )


class _MicroBatches(Dataset[ImageBatch | Exception]):
    """Map-style data set: a list of requests → the micro-batch, or what the user must know of why there is none.

    Each item of the sampler is a whole micro-batch.
    """

    def __init__(self, index: MixedIndex, seed: int, flip: bool) -> None:
        self.index, self.seed, self.flip = index, seed, flip

    def __getitem__(self, request: tuple[int, list[tuple[int, int]]]) -> ImageBatch | Exception:
        try:
            return self._batch(*request)
        except (UserError, OSError) as error:  # a loader process would put its traceback into the message
            return error

    def _batch(self, first: int, samples: list[tuple[int, int]]) -> ImageBatch:
        images = [
            augment(
                torch.from_numpy(to_float(self.index.read(item).image)), self.seed, epoch, item, self.flip
            )
            for epoch, item in samples
        ]
        seeds = [sample_seed(self.seed, epoch, item, "mask") for epoch, item in samples]
        return ImageBatch(torch.stack(images), first, seeds)


class ImageBatches:
    """Callable: step → this worker's micro-batches, read ahead by loader processes.

    Steps must be requested in ascending order without gaps; the first may be any.

    Args:
        images: image shards, or several sets of them.
        settings: seed, batch sizes, steps, and whether to flip images at random.
        workers: the group; each worker gets its share of a step.
        loader_workers: number of reading and decoding processes; 0 reads in this one.
    """

    def __init__(
        self, images: Mixture, settings: MQVAESettings, workers: Workers, loader_workers: int
    ) -> None:
        self.settings, self.loader_workers = settings, loader_workers
        self.mine = settings.mine(workers.rank, workers.size)
        self.order = images.order(settings.seed, GROUP)
        index = images.index()
        self.data = _MicroBatches(index, settings.seed, settings.flip)
        self._stream: Iterator[ImageBatch | Exception] | None = None
        # an order of its own, because each remembers the epochs that it was asked for last
        order = images.order(settings.seed, GROUP)
        far = any(one.home.is_far for one in index.indices)
        self.ahead = (
            Prefetch(index, order.batch, GROUP, settings.global_batch, settings.steps) if far else None
        )

    def _requests(self, start: int) -> Iterator[tuple[int, list[tuple[int, int]]]]:
        settings = self.settings
        for step in range(start, settings.steps):
            samples = self.order.batch(step, settings.global_batch)
            for number in self.mine:
                first = number * settings.micro_batch
                yield first, samples[first : first + settings.micro_batch]

    def __call__(self, step: int) -> Sequence[ImageBatch]:
        """This worker's micro-batches of a step.

        Raises:
            UserError: images cannot be read, or a loader process died.
        """
        if self._stream is None:
            loader: DataLoader[ImageBatch | Exception] = DataLoader(
                self.data,
                sampler=_Requests(self._requests(step)),
                batch_size=None,
                num_workers=self.loader_workers,
                worker_init_fn=keep_sockets_short,
                prefetch_factor=4 if self.loader_workers else None,
            )
            self._stream = iter(loader)
            if self.ahead is not None:
                self.ahead.start(step)
        if self.ahead is not None:
            self.ahead.at(step)
        return [self._next(self._stream) for _ in self.mine]

    def _next(self, stream: Iterator[ImageBatch | Exception]) -> ImageBatch:
        try:
            found = next(stream)
        except RuntimeError as error:
            if DIED not in str(error):
                raise
            raise UserError(
                f"a loader process died, as where memory ends: lower compute.loader_workers (now {self.loader_workers}) or "
                f"micro_batch, and run again; a container may need more shared memory, --shm-size ({first_line(error)})"
            ) from error
        if isinstance(found, Exception):
            raise found
        return found


class _Requests:
    """An iterable that DataLoader accepts as a sampler."""

    def __init__(self, requests: Iterator[tuple[int, list[tuple[int, int]]]]) -> None:
        self.requests = requests

    def __iter__(self) -> Iterator[tuple[int, list[tuple[int, int]]]]:
        return self.requests
