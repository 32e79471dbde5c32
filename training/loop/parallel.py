"""Several workers train one model: its gradients are summed while the backward pass still runs.

Every worker has the whole model (DistributedDataParallel, `replicated`), or a part of each weight (FSDP2, `split`).

DistributedDataParallel collects gradients in buckets and sums a bucket as soon as it is full, behind the rest of the backward
pass; over the micro-batches of a step but the last it only accumulates (`no_sync`).
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from warnings import filterwarnings

import torch.distributed
from torch import Tensor, nn
from torch.distributed import GradBucket
from torch.futures import Future
from torch.nn.parallel import DistributedDataParallel

from workspace.errors import PeerLostError

GLOO_BUCKET_MIB = 4
"""Gradients that gloo sums at once. A sum waits until its bucket is full, and the last bucket is summed after the backward pass:
with DDP's own 25 MiB a network idles when that pass begins and is waited for at its end. NCCL keeps 25, as its launches cost."""


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
        bucket_cap_mb=GLOO_BUCKET_MIB if torch.distributed.get_backend() == "gloo" else None,
    )
    replica.register_comm_hook(None, summed)
    return replica


def summed(_: object, bucket: GradBucket) -> Future[Tensor]:
    """DDP's own all-reduce takes the mean; a micro-batch's share of the step is in its loss already, so this is the sum."""
    work = torch.distributed.all_reduce(bucket.buffer(), async_op=True)
    future: Future[Tensor] = work.get_future().then(lambda done: done.value()[0])
    return future


def split(model: nn.Module, blocks: Iterable[nn.Module], device: torch.device, size: int) -> None:
    """Divide weights, in place, among `size` workers; each block has all of its own only while it computes.

    Gradients are summed in each micro-batch, as whole ones that add up would take the memory that is to be saved.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, fully_shard

    mesh = init_device_mesh(device.type, (size,))
    for module in (*blocks, model):
        fully_shard(module, mesh=mesh)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)  # a sum, as above
            module.set_force_sum_reduction_for_comms(True)  # gloo has no other


def local(tensor: Tensor) -> Tensor:
    """This worker's part of a tensor; all of it where it is not split."""
    part: Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return part


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor; where it is split, all workers must call this."""
    full: Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return full


def is_split(modules: Mapping[str, nn.Module]) -> bool:
    """Whether weights are divided among workers."""
    weights = (weight for module in modules.values() for weight in module.parameters())
    return any(hasattr(weight, "to_local") for weight in weights)


def whole_state(module: nn.Module) -> dict[str, Tensor]:
    """A module's state on the host, no tensor of it split; all workers must call this."""
    return {name: whole(tensor).cpu() for name, tensor in module.state_dict().items()}


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
            raise PeerLostError.of(error) from error
        raise
