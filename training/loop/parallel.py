"""Several workers train one model: its gradients are summed while the backward pass still runs.

DistributedDataParallel collects gradients in buckets and sums a bucket as soon as it is full, behind the rest of the backward
pass; over the micro-batches of a step but the last it only accumulates (`no_sync`).
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from warnings import filterwarnings

import torch.distributed
from torch import Tensor, nn
from torch.distributed import GradBucket
from torch.futures import Future
from torch.nn.parallel import DistributedDataParallel

from workspace.errors import PeerLostError


def replicated(module: nn.Module) -> DistributedDataParallel:
    """The module with gradients that are summed over all workers, whose weights must be equal already.

    Which weights have a gradient changes from step to step (frozen scores, a codebook that is bypassed, the first `mix_2`), so
    they are looked for at each step. That also keeps the buckets as they are: DDP else divides them another way after the
    first step, and with three workers or more a resumed run would add in another order than an uninterrupted one.
    """
    filterwarnings("ignore", message="`broadcast_buffers` is deprecated")
    replica = DistributedDataParallel(
        module,
        broadcast_buffers=False,  # the codebook moves by sums over all workers: it is equal already
        init_sync=False,  # so are the weights, from the seed or from a checkpoint
        find_unused_parameters=True,
        gradient_as_bucket_view=True,
        batched_grad_copy=True,
    )
    replica.register_comm_hook(None, summed)
    return replica


def summed(_: object, bucket: GradBucket) -> Future[Tensor]:
    """DDP's own all-reduce takes the mean; a micro-batch's share of the step is in its loss already, so this is the sum."""
    work = torch.distributed.all_reduce(bucket.buffer(), async_op=True)
    future: Future[Tensor] = work.get_future().then(lambda done: done.value()[0])
    return future


@contextmanager
def accumulating(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Within the block gradients add up on each worker, and are not summed over workers."""
    with ExitStack() as stack:
        for module in modules:
            if isinstance(module, DistributedDataParallel):
                stack.enter_context(module.no_sync())
        yield


@contextmanager
def summing() -> Iterator[None]:
    """A backward pass in which gradients are summed: a lost peer is distinguished from an error of the model.

    Raises:
        PeerLostError: gloo, which raises no class of its own but names its source file, lost one.
    """
    try:
        yield
    except RuntimeError as error:
        if "gloo/" in str(error):
            raise PeerLostError(str(error)) from error
        raise
