"""Where the tests of evaluation/ find data and weights that are not part of the project."""

import os
from pathlib import Path

import pytest

from evaluation.features.efficientnet import require_package
from tests.committed import ROOT
from workspace.errors import UserError

SHARED = ROOT.parent / "shared"


def _shared(name: str) -> Path:
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"../shared/{name} is not on this machine")
    return path


@pytest.fixture
def inception_features() -> Path:
    """Inception features of 633 daisies and 641 roses."""
    return _shared("data/inception_pool3_flowers.npz")


@pytest.fixture
def squeezenet_weights() -> Path:
    """torchvision's SqueezeNet-1.1 weights as safetensors."""
    return _shared("weights/squeezenet1_1.safetensors")


@pytest.fixture
def lpips_heads() -> Path:
    """LPIPS v0.1 heads for SqueezeNet."""
    return _shared("weights/lpips_squeeze_v0.1.safetensors")


@pytest.fixture
def flowers() -> Path:
    """Photographs in five class folders."""
    return _shared("data/flowers")


@pytest.fixture
def efficientnet() -> Path:
    """The package's file of EfficientNet-Lite0's weights."""
    try:
        return require_package()
    except UserError as error:
        if "MQVAE_REQUIRE_EFFICIENTNET" in os.environ:
            raise
        pytest.skip(str(error))
