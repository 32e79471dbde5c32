"""Laws of the perceptual distance."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from evaluation.lpips import LPIPS, SQUEEZENET_CUTS, VGG_CUTS, load_lpips, vgg_features
from evaluation.squeezenet import squeezenet_features
from workspace.errors import UserError


def images(seed: int, count: int = 2, side: int = 40) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def small(seed: int = 0) -> LPIPS:
    """A distance on an untrained SqueezeNet: the laws need no weights."""
    torch.manual_seed(seed)
    widths = (64, 128, 256, 384, 384, 512, 512)
    return LPIPS(squeezenet_features(), SQUEEZENET_CUTS, [torch.rand(width) for width in widths])


def literal_lpips(distance: LPIPS, x: Tensor, y: Tensor) -> Tensor:
    """The package's formula: scale, run, unit vectors, squared difference, 1×1 head, spatial mean."""
    totals = torch.zeros(len(x))
    for cut, head in zip(distance.cuts, distance.heads, strict=True):
        units = []
        for image in (x, y):
            layer = distance.backbone[:cut]((image - distance.shift) / distance.scale)
            units.append(layer / (torch.sqrt(torch.sum(layer**2, dim=1, keepdim=True)) + 1e-10))
        totals += F.conv2d((units[0] - units[1]) ** 2, head).mean(dim=(1, 2, 3))
    return totals


def test_lpips_equals_the_formula_of_its_package() -> None:
    distance, x, y = small(), images(0), images(1)
    torch.testing.assert_close(distance.distances(x, y), literal_lpips(distance, x, y))
    torch.testing.assert_close(distance(x, y), literal_lpips(distance, x, y).mean())


def test_published_weights_give_the_value_of_the_lpips_package(
    squeezenet_weights: Path, lpips_heads: Path
) -> None:
    distance = LPIPS.squeezenet(squeezenet_weights, lpips_heads)
    ramp = torch.linspace(-1, 1, 64).expand(1, 3, 64, 64)
    assert distance(ramp, ramp.flip(-1)).item() == pytest.approx(0.300455, rel=1e-4)


def test_an_image_has_no_distance_to_itself_and_the_distance_is_symmetric() -> None:
    distance, x, y = small(), images(0), images(1)
    assert distance(x, x).item() == 0
    torch.testing.assert_close(distance(x, y), distance(y, x))


def test_the_distance_stays_frozen_in_eval_mode_and_in_float32() -> None:
    holder = nn.ModuleList([small()]).train()
    distance = holder[0]
    assert not any(module.training for module in distance.modules())
    assert not any(parameter.requires_grad for parameter in distance.parameters())
    with torch.autocast("cpu", torch.bfloat16):
        inside = distance(images(0), images(1))
    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside, distance(images(0), images(1)))


def test_the_gradient_is_finite_where_an_activation_is_all_zero() -> None:
    distance = small()
    distance.get_parameter("backbone.0.bias").fill_(-1e3)
    x = images(0).requires_grad_()
    distance(x, images(1)).backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_vgg_weights_are_taken_from_a_path(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = vgg_features()
    weights = {f"features.{name}": value for name, value in network.state_dict().items()}
    save_file(weights | {"classifier.0.bias": torch.zeros(3)}, tmp_path / "vgg.safetensors")
    heads = {
        f"lin{i}.model.1.weight": torch.rand(1, width, 1, 1)
        for i, width in enumerate((64, 128, 256, 512, 512))
    }
    save_file(heads, tmp_path / "heads.safetensors")
    distance = load_lpips("vgg", tmp_path / "vgg.safetensors", tmp_path / "heads.safetensors")
    expected = LPIPS(network, VGG_CUTS, list(heads.values()))
    x, y = images(0, 1), images(1, 1)
    torch.testing.assert_close(distance(x, y), expected(x, y))


def test_heads_of_another_network_are_refused(
    tmp_path: Path, squeezenet_weights: Path, lpips_heads: Path
) -> None:
    few = dict(list(load_file(lpips_heads).items())[:3])
    save_file(few, tmp_path / "few.safetensors")
    with pytest.raises(UserError, match=r"lack lin3\.model\.1\.weight; expected 7 heads"):
        LPIPS.squeezenet(squeezenet_weights, tmp_path / "few.safetensors")


def test_a_loss_without_a_path_says_which_setting_to_give() -> None:
    with pytest.raises(UserError, match=r"perceptual\.backbone is null"):
        load_lpips("squeezenet", None, None)


def test_weights_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent\.safetensors do not exist"):
        load_lpips("vgg", tmp_path / "absent.safetensors", tmp_path / "heads.safetensors")
