"""One image at the paper's full size (256 px, 32 × 32 cells, a quarter masked) forward and backward through both models.

In the preset's own precision, bf16, where the CPU multiplies in it: that halves the time. Elsewhere in fp32.
"""

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from models.base.precision import Precision, autocast
from models.base.pretrained import config_from_json
from models.mqvae import MQVAE, MQVAEConfig
from models.stackformer import NetworkConfig, Stackformer, StackformerConfig
from tests import presets


@pytest.fixture(scope="module")
def preset() -> dict[str, Any]:
    return presets.tree("ffhq")


def precision_of(section: dict[str, Any]) -> Precision:
    """The section's, or fp32 where the CPU has no products in bf16."""
    assert section["precision"] == "bf16"
    return "bf16" if torch.cpu._is_avx512_bf16_supported() else "fp32"


def finite_gradients(model: torch.nn.Module) -> int:
    """Parameters whose gradient is there and finite."""
    found = [weight.grad for weight in model.parameters() if weight.grad is not None]
    assert all(torch.isfinite(gradient).all() for gradient in found)
    return sum(gradient.numel() for gradient in found)


def test_mq_vae_learns_from_an_image_of_256_pixels(preset: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = MQVAE(config_from_json(MQVAEConfig, preset["mqvae"]["model"]))
    assert (model.config.num_positions, model.config.num_kept) == (1024, 768)
    image_BCHW = torch.rand(1, 3, 256, 256) * 2 - 1
    with autocast(precision_of(preset["mqvae"]), torch.device("cpu")):
        output = model(image_BCHW)
    assert output.reconstruction_BCHW.shape == image_BCHW.shape and output.codes_BN.shape == (1, 768)
    (F.l1_loss(output.reconstruction_BCHW.float(), image_BCHW) + output.commitment).backward()
    assert finite_gradients(model) > 0.99 * sum(weight.numel() for weight in model.parameters())


def test_stackformer_learns_from_768_codes(preset: dict[str, Any]) -> None:
    torch.manual_seed(0)
    network = config_from_json(NetworkConfig, preset["stackformer"]["model"])
    config = StackformerConfig(network, 1024, 1024, 768, "none", 1, 1)
    model = Stackformer(config)
    codes_BN = torch.randint(0, 1024, (1, 768))
    positions_BN = torch.randperm(1024)[:768].sort().values[None]
    with autocast(precision_of(preset["stackformer"]), torch.device("cpu")):
        output = model(codes_BN, positions_BN, torch.zeros(1, 1, dtype=torch.long))
        loss = model.loss(output, codes_BN, positions_BN)
    assert 5 < loss.code < 9 and 0 < loss.position < 7
    loss.total.backward()
    assert finite_gradients(model) > 300_000_000
