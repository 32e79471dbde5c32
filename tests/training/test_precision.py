"""What runs in which precision, memory format and kernel on which device; and what a checkpoint does not carry over."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import AdamW

from cluster.devices import reproducible
from cluster.training import WorkerGroup, fit
from evaluation.perceptual.lpips import LPIPS
from models.base.moving import sent
from models.base.precision import ChannelsLast, allow_tf32, kernels, memory_format
from training.loop.checkpoints import load_checkpoint, save_checkpoint
from workspace.settings import Compute

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("asked", "compiled", "device", "last"),
    [
        ("auto", False, CPU, True), ("auto", True, CPU, True), ("auto", False, GPU, False), ("auto", True, GPU, True),
        (True, False, GPU, True), (False, True, CPU, False), (False, True, GPU, False),
    ],
)  # fmt: skip
def test_the_memory_format_is_as_asked_for_or_the_devices_faster_one(
    asked: ChannelsLast, compiled: bool, device: torch.device, last: bool
) -> None:
    expected = torch.channels_last if last else torch.contiguous_format
    assert memory_format(asked, compiled, device) == expected


def test_optimisers_are_fused_on_a_gpu_alone() -> None:
    for device, name in ((GPU, "fused"), (CPU, "foreach")):
        groups = AdamW([nn.Parameter(torch.zeros(1))], **kernels(device)).param_groups
        assert groups[0][name] and not groups[0]["foreach" if name == "fused" else "fused"]


@pytest.mark.parametrize(("before", "after"), [("fused", "foreach"), ("foreach", "fused")])
def test_a_resume_on_another_device_steps_with_that_ones_kernels_to_the_same_numbers(
    tmp_path: Path, before: str, after: str
) -> None:
    layer, other = nn.Linear(3, 2), nn.Linear(3, 2)
    first = AdamW(layer.parameters(), lr=0.1, **{before: True})
    for _ in range(2):
        layer(torch.ones(3)).sum().backward()
        first.step()
    path = save_checkpoint(tmp_path, 2, {"model": layer}, {"model": first})
    second = AdamW(other.parameters(), lr=0.5, **{after: True})
    load_checkpoint(path, {"model": other}, {"model": second})
    group: dict[str, Any] = second.param_groups[0]
    assert group[after] and not group[before] and group["lr"] == 0.1
    for model, optimizer in ((layer, first), (other, second)):
        optimizer.zero_grad()
        model(torch.ones(3)).sum().backward()
        optimizer.step()
    torch.testing.assert_close(dict(layer.state_dict()), dict(other.state_dict()))


def test_tf32_is_allowed_where_it_is_asked_for() -> None:
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    for convolutions, products in ((True, False), (False, True), (False, False)):
        allow_tf32(convolutions, products)
        assert torch.backends.cudnn.allow_tf32 == convolutions
        assert torch.backends.cuda.matmul.allow_tf32 == products
    allow_tf32(*before)


def worker(seen: list[bool], group: WorkerGroup) -> None:
    seen.append(torch.are_deterministic_algorithms_enabled())


def test_deterministic_algorithms_are_taken_in_a_training_that_asks_for_them_and_nowhere_else(
    tmp_path: Path,
) -> None:
    seen: list[bool] = []
    for wanted in (True, False):
        compute = Compute(
            device="cpu", workers=0, threads=1, loader_workers=0, ray_address="local", deterministic=wanted
        )
        fit(worker, seen, compute, tmp_path)
    assert seen == [True, False] and not torch.are_deterministic_algorithms_enabled()
    with pytest.raises(KeyError, match="in the middle"), reproducible(True):
        raise KeyError("in the middle")
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_copy_to_a_gpu_goes_by_way_of_pinned_memory_and_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    moves: list[tuple[str, object]] = []

    class Pinned:
        def to(self, device: torch.device, non_blocking: bool) -> str:
            moves.append((device.type, non_blocking))
            return "there"

    monkeypatch.setattr(Tensor, "pin_memory", lambda self: Pinned())
    assert sent(torch.zeros(1), GPU) == "there" and moves == [("cuda", True)]  # type: ignore[comparison-overlap]
    assert torch.equal(sent(torch.ones(2), CPU), torch.ones(2))


def test_a_perceptual_distance_in_bf16_is_near_the_exact_one_and_points_the_same_way() -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2), nn.ReLU())
    distance = LPIPS(layers, (2, 4), [torch.rand(16), torch.rand(32)])
    a_BCHW, b_BCHW = torch.rand(2, 4, 3, 16, 16) * 2 - 1
    found, slopes = [], []
    for distance.bf16 in (False, True):
        moved = b_BCHW.clone().requires_grad_()
        value = distance(a_BCHW, moved)
        assert value.dtype == torch.float32
        found.append(float(value.detach()))
        slopes.append(torch.autograd.grad(value, moved)[0].flatten())
    assert found[0] != found[1] and found[1] == pytest.approx(found[0], rel=1e-2)
    assert torch.cosine_similarity(*slopes, dim=0) > 0.99
