"""Laws of the perceptual distance."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from evaluation.perceptual.backbones import Published, read_published, squeezenet_features, vgg_features
from evaluation.perceptual.lpips import LPIPS, SQUEEZENET_CUTS, VGG_CUTS, LPIPSConfig, load_lpips
from workspace.errors import UserError
from workspace.exact.manifest import sha256_file


def images(seed: int, count: int = 2, side: int = 40) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def small(seed: int = 0) -> LPIPS:
    """A distance on an untrained SqueezeNet: the laws need no weights."""
    torch.manual_seed(seed)
    widths = (64, 128, 256, 384, 384, 512, 512)
    return LPIPS(squeezenet_features(), SQUEEZENET_CUTS, [torch.rand(width) for width in widths])


def published(backbone: Path, heads: Path) -> LPIPS:
    """SqueezeNet's distance from files."""
    found = load_lpips(LPIPSConfig("squeezenet", backbone, heads), "reconstruct.lpips")
    assert found is not None
    return found


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
    distance = published(squeezenet_weights, lpips_heads)
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
    distance = load_lpips(
        LPIPSConfig("vgg", tmp_path / "vgg.safetensors", tmp_path / "heads.safetensors"), "mqvae.perceptual"
    )
    assert distance is not None
    expected = LPIPS(network, VGG_CUTS, list(heads.values()))
    x, y = images(0, 1), images(1, 1)
    torch.testing.assert_close(distance(x, y), expected(x, y))


def test_heads_of_another_network_are_refused(
    tmp_path: Path, squeezenet_weights: Path, lpips_heads: Path
) -> None:
    few = dict(list(load_file(lpips_heads).items())[:3])
    save_file(few, tmp_path / "few.safetensors")
    with pytest.raises(UserError, match=r"lack lin3\.model\.1\.weight; expected 7 heads"):
        published(squeezenet_weights, tmp_path / "few.safetensors")


def test_offline_without_a_path_says_what_to_fetch_where_to_put_it_and_which_setting_to_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("network unreachable")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(
        UserError,
        match=r"vgg16-397923af\.pth cannot be fetched .*fetch it elsewhere to .*checkpoints/vgg16.*mqvae\.perceptual\.backbone",
    ):
        load_lpips(LPIPSConfig("vgg", None, None), "mqvae.perceptual")


def test_a_download_is_read_only_where_its_bytes_are_the_published_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    tensors, path = {"a": torch.arange(3.0)}, tmp_path / "made.pth"
    torch.save(tensors, path)
    published_file = Published(path.as_uri(), sha256_file(path))
    torch.testing.assert_close(read_published(published_file, "x.y"), tensors)
    torch.testing.assert_close(read_published(published_file, "x.y"), tensors)
    published_file.cached.write_bytes(b"another file")
    with pytest.raises(UserError, match=r"made\.pth is not file:.* its SHA-256 is .*; delete it"):
        read_published(published_file, "x.y")


def test_no_network_is_no_distance() -> None:
    assert load_lpips(LPIPSConfig("none", None, None), "mqvae.perceptual") is None


def test_weights_that_are_not_there_are_named(tmp_path: Path) -> None:
    config = LPIPSConfig("vgg", tmp_path / "absent.safetensors", tmp_path / "heads.safetensors")
    with pytest.raises(UserError, match=r"absent\.safetensors do not exist"):
        load_lpips(config, "mqvae.perceptual")


def photographs(folder: Path, side: int = 64) -> Tensor:
    """One picture of each class, in [-1, 1]."""
    found = []
    for path in sorted(folder.glob("*/"))[:4]:
        with Image.open(next(iter(sorted(path.iterdir())))) as image:
            found.append(np.asarray(image.convert("RGB").resize((side, side))))
    return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2) / 127.5 - 1


def blurred(x: Tensor, amount: int) -> Tensor:
    """A mean over windows of 2 · amount + 1 pixels."""
    return F.avg_pool2d(
        F.pad(x, (amount,) * 4, mode="reflect"), 2 * amount + 1, stride=1, count_include_pad=False
    )


def noisy(x: Tensor, amount: int) -> Tensor:
    return x + 0.1 * amount * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))


def shifted(x: Tensor, amount: int) -> Tensor:
    return torch.roll(x, 2 * amount, dims=-1)


@pytest.mark.parametrize("perturbed", [blurred, noisy, shifted])
def test_stronger_perturbations_are_farther(
    squeezenet_weights: Path, lpips_heads: Path, flowers: Path, perturbed: Callable[[Tensor, int], Tensor]
) -> None:
    distance, x = published(squeezenet_weights, lpips_heads), photographs(flowers)
    found = torch.stack([distance.distances(x, perturbed(x, amount)) for amount in (0, 1, 2, 4)])
    torch.testing.assert_close(found[0], torch.zeros(4), atol=1e-7, rtol=0)
    assert (found.diff(dim=0) > 0).all()


def test_the_published_distance_gives_the_same_bits_twice_and_leads_back_to_the_image(
    squeezenet_weights: Path, lpips_heads: Path
) -> None:
    distance, x = published(squeezenet_weights, lpips_heads), images(0, 4, 64)
    near = (x + 0.3 * images(1, 4, 64)).requires_grad_()
    first, again = distance.distances(x, near), distance.distances(x, near)
    assert torch.equal(first, again)
    (gradient,) = torch.autograd.grad(first.sum(), near)
    assert gradient.isfinite().all()
    assert gradient.abs().amax(dim=(1, 2, 3)).min() > 0
    with torch.no_grad():
        assert (distance.distances(x, near - 0.01 * gradient / gradient.abs().max()) < first).all()


def test_bytes_are_compared_as_their_floats_are() -> None:
    distance, random = small(), np.random.default_rng(0)
    a, b = random.integers(0, 256, (2, 3, 40, 40, 3), np.uint8)
    floats = (torch.from_numpy(side).permute(0, 3, 1, 2) / 127.5 - 1 for side in (a, b))
    np.testing.assert_allclose(distance.of_images(a, b), distance.distances(*floats).numpy(), rtol=1e-6)
