"""The published classifiers behind features and LPIPS, SqueezeNet 1.1 and VGG-16, and the reading of their weights.

The networks are our own implementations of the architectures (Iandola et al. 2016, Simonyan & Zisserman 2015) with torchvision's
key names, so that torchvision is not needed. Weights come from a safetensors file, or from the published file, which is read
only if it has the SHA-256 given here, and only as tensors.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from workspace.errors import UserError
from workspace.exact.manifest import sha256_file

N = TypeVar("N", bound=nn.Module)
VGG_LAYERS = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)


@dataclass(frozen=True)
class Published:
    """A published file of weights: its address and the SHA-256 of its bytes."""

    url: str
    sha256: str

    @property
    def cached(self) -> Path:
        """Path of the downloaded file; a file fetched elsewhere can be put here."""
        return Path(torch.hub.get_dir()) / "checkpoints" / Path(self.url).name


SQUEEZENET = Published(
    "https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth",
    "b8a52dc049b60e4b6ab68ad0df457362afab8b6304b2febdc1650a5dab4d7e7b",
)
VGG16 = Published(
    "https://download.pytorch.org/models/vgg16-397923af.pth",
    "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
)


class Fire(nn.Module):
    """Squeeze to few channels, then expand with parallel 1×1 and 3×3 filters."""

    def __init__(self, inputs: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """[B, inputs, H, W] → [B, 2 · expanded, H, W]."""
        x_BCHW = F.relu(self.squeeze(x_BCHW))
        return torch.cat([F.relu(self.expand1x1(x_BCHW)), F.relu(self.expand3x3(x_BCHW))], dim=1)


def squeezenet_features() -> nn.Sequential:
    """The convolutional part: normalised RGB [B, 3, H, W] → [B, 512, h, w]; its indices are torchvision's."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 3, stride=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        Fire(64, 16, 64),
        Fire(128, 16, 64),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        Fire(128, 32, 128),
        Fire(256, 32, 128),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        Fire(256, 48, 192),
        Fire(384, 48, 192),
        Fire(384, 64, 256),
        Fire(512, 64, 256),
    )


class SqueezeNet(nn.Module):
    """SqueezeNet 1.1 with the state_dict keys of torchvision's `squeezenet1_1`."""

    def __init__(self) -> None:
        super().__init__()
        self.features = squeezenet_features()
        self.classifier = nn.Sequential(nn.Dropout(), nn.Conv2d(512, 1000, 1), nn.ReLU())

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Normalised RGB [B, 3, H, W] → logits [B, 1000]."""
        logits_BC: Tensor = self.classifier(self.features(x_BCHW)).mean(dim=(2, 3))
        return logits_BC


def vgg_features() -> nn.Sequential:
    """The convolutional part of VGG-16; its indices are torchvision's."""
    layers: list[nn.Module] = []
    inputs = 3
    for outputs in VGG_LAYERS:
        if outputs == 0:
            layers.append(nn.MaxPool2d(2, 2))
            continue
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
        inputs = outputs
    return nn.Sequential(*layers)


def channels_last(network: N) -> N:
    """Convert the network's convolutions to channels_last memory format (1.4× as fast on a CPU), in place."""
    anything: Any = network
    anything.to(memory_format=torch.channels_last)
    return network


def weights_of(path: Path | None, published: Published, setting: str) -> dict[str, Tensor]:
    """Tensors of a safetensors file, or of the published file if `path` is None.

    Args:
        path: the file named in the settings.
        published: the file to download otherwise.
        setting: the setting's name, for the error of a failed download.

    Raises:
        UserError: no such file, not safetensors, or a failed download; the error says what to fetch and where to put it.
    """
    return read_weights(path) if path is not None else read_published(published, setting)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file.

    Raises:
        UserError: no such file, or not safetensors.
    """
    if not path.is_file():
        raise UserError(f"the weights {path} do not exist; expected a safetensors file")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise UserError(f"the weights {path} are not a safetensors file: {error}") from error


def read_published(published: Published, setting: str) -> dict[str, Tensor]:
    """Tensors of a published file, downloaded once, checked by SHA-256, and read only as tensors (no code in it is run).

    Raises:
        UserError: the download failed (the error says what to fetch and where to put it), or the file has another SHA-256.
    """
    path = published.cached
    try:
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(published.url, str(path), progress=False)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"no weights: {published.url} cannot be fetched ({error}); fetch it elsewhere to {path}, "
            f"or set {setting} to a safetensors file with the same key names"
        ) from error
    found = sha256_file(path)
    if found != published.sha256:
        raise UserError(
            f"{path} is not {published.url}: its SHA-256 is {found[:12]}…, expected {published.sha256[:12]}…; delete it"
        )
    tensors: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return tensors


def check_fit(network: nn.Module, tensors: dict[str, Tensor], source: Path | str) -> None:
    """Load the tensors into the network.

    Raises:
        UserError: names or shapes differ.
    """
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        text = " ".join(str(error).split())[:300]
        raise UserError(f"the weights {source} do not fit {type(network).__name__}: {text}") from error
