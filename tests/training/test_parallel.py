"""Laws of gradients that are summed behind the backward pass, in a group of one."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.distributed
from torch import Tensor, nn
from torch.distributed import GradBucket
from torch.futures import Future

from tests.training.test_stackformer_training import TRAINING
from training.loop import parallel
from training.loop.parallel import accumulating, replicated, summing
from workspace.errors import PeerLostError, UserError
from workspace.settings import Compute


@pytest.fixture(scope="module", autouse=True)
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    store = f"file://{tmp_path_factory.mktemp('group') / 'store'}"
    torch.distributed.init_process_group("gloo", store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


class Fork(nn.Module):
    """Two convolutions, of which a call uses one or both."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Conv2d(4, 6, 3), nn.Conv2d(4, 6, 3)

    def forward(self, image: Tensor, both: bool) -> Tensor:
        return self.one(image) + self.other(image) if both else self.one(image)


def forked() -> Fork:
    torch.manual_seed(0)
    fork = Fork()
    fork.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return fork


IMAGE = torch.linspace(-1, 1, 200).view(2, 4, 5, 5)


def test_gradients_are_those_of_the_module_alone_and_have_their_weights_strides() -> None:
    alone, replica = forked(), replicated(forked())
    for both in (True, False, True):  # what has no gradient may change from step to step
        for module in (alone, replica):
            module.zero_grad(set_to_none=True)
            module(IMAGE, both).square().sum().backward()
        for ours, theirs in zip(replica.parameters(), alone.parameters(), strict=True):
            assert (ours.grad is None) == (theirs.grad is None)
            if ours.grad is not None and theirs.grad is not None:
                assert torch.equal(ours.grad, theirs.grad) and ours.grad.stride() == ours.stride()
    assert not next(replica.parameters()).is_contiguous()


def test_micro_batches_add_up_and_are_summed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sums, whole = list[int](), parallel.summed

    def counted(group: object, bucket: GradBucket) -> Future[Tensor]:
        sums.append(bucket.index())
        return whole(group, bucket)

    monkeypatch.setattr(parallel, "summed", counted)
    alone, replica = forked(), replicated(forked())
    for number in range(3):
        alone(IMAGE, True).square().sum().backward()
        with accumulating([replica] if number < 2 else []):
            replica(IMAGE, True).square().sum().backward()
        assert sums == ([] if number < 2 else [0])
    for ours, theirs in zip(replica.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (RuntimeError("[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed"),
         PeerLostError("the connection to another worker is lost: Connection closed")),
        (RuntimeError("[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:40711. "
                      "This may indicate a remote rank"),
         PeerLostError("the connection to another worker is lost: Connection closed by peer")),
        (RuntimeError("[a/gloo/transport/tcp/unbound_buffer.cc:78] Timed out waiting 1800000ms for recv operation to complete"),
         PeerLostError("the connection to another worker is lost: Timed out waiting 1800000ms for recv operation to complete")),
        (RuntimeError("the size of tensor a must match"), RuntimeError("the size of tensor a must match")),
        (torch.OutOfMemoryError("CUDA out of memory"), torch.OutOfMemoryError("CUDA out of memory")),
    ],
)  # fmt: skip
def test_a_backward_pass_tells_a_lost_peer_from_an_error_of_the_model(
    raised: Exception, told: Exception
) -> None:
    with pytest.raises(type(told), match=f"^{told}$") as found, summing():
        raise raised
    assert type(found.value) is type(told)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"optimizer": "muon"}, "parallel is fsdp and optimizer is muon, .*; set optimizer: adamw"),
        ({"keep": "best"}, "parallel is fsdp, which keeps the last weights; set keep: last"),
        ({"patience": 3}, "patience: null, or parallel: ddp"),
    ],
)
def test_what_divided_weights_cannot_do_is_refused_before_any_work(
    changes: dict[str, Any], told: str
) -> None:
    here = Compute(device="cpu", workers=2, threads=1, loader_workers=0, ray_address="local")
    with pytest.raises(UserError, match=told):
        TRAINING.replaced(parallel="fsdp", **changes).check("stackformer", here)
    TRAINING.replaced(**changes).check("stackformer", here)
