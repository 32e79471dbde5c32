"""SqueezeNet 1.1 with ImageNet weights, as torchvision names them: a small, real, offline feature extractor.

The network is our own copy of the architecture (Iandola et al. 2016), so that no torchvision is needed.
"""

import hashlib
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from evaluation.features import Features, Images
from workspace.errors import UserError
from workspace.manifest import atomic_path, sha256_file

WEIGHTS = "extractor.safetensors"
URL = "https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth"
URL_SHA256 = "b8a52dc0"
SIDE = 224
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Fire(nn.Module):
    """Squeeze to few channels, expand with 1×1 and 3×3 filters side by side."""

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
    """SqueezeNet 1.1; state_dict keys are those of torchvision's `squeezenet1_1`."""

    def __init__(self) -> None:
        super().__init__()
        self.features = squeezenet_features()
        self.classifier = nn.Sequential(nn.Dropout(), nn.Conv2d(512, 1000, 1), nn.ReLU())

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Normalised RGB [B, 3, H, W] → logits [B, 1000]."""
        logits_BC: Tensor = self.classifier(self.features(x_BCHW)).mean(dim=(2, 3))
        return logits_BC


class SqueezeNetExtractor:
    """Mean over places of the last Fire module's 512 channels; images are brought to 224×224 first."""

    name = "squeezenet"
    dim = 512
    resize = "bilinear with antialiasing to 224×224, ImageNet mean and deviation"

    def __init__(self, network: SqueezeNet, fingerprint: str, device: torch.device) -> None:
        self.network = network.to(device).eval()
        self.fingerprint = fingerprint
        self.device = device
        self.heads: dict[str, tuple[str, ...]] = {}

    @torch.inference_mode()
    def __call__(self, images: Images) -> Features:
        """Features of uint8 images [B, H, W, 3]."""
        x_BCHW = (
            torch.from_numpy(np.ascontiguousarray(images)).to(self.device).permute(0, 3, 1, 2).float() / 255
        )
        x_BCHW = F.interpolate(x_BCHW, (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)
        mean, deviation = (x_BCHW.new_tensor(value).reshape(1, 3, 1, 1) for value in (MEAN, DEVIATION))
        maps_BDHW = self.network.features((x_BCHW - mean) / deviation)
        logits_BC = self.network.classifier(maps_BDHW).mean(dim=(2, 3))
        return Features(maps_BDHW.mean(dim=(2, 3)).cpu().numpy(), {"imagenet": logits_BC.cpu().numpy()})


def install_squeezenet(weights: Path | None, folder: Path) -> None:
    """Put the weights into `folder`, from a safetensors file or from torchvision's own download.

    Raises:
        UserError: no such file, or weights that do not fit; offline: what to fetch and where to name it.
    """
    tensors = _download() if weights is None else read_weights(weights)
    check_fit(SqueezeNet(), tensors, weights or Path(URL))
    with atomic_path(folder / WEIGHTS) as temporary:
        save_file(dict(sorted(tensors.items())), temporary)


def load_squeezenet(folder: Path, device: torch.device) -> SqueezeNetExtractor:
    """Read what `install_squeezenet` wrote."""
    network = SqueezeNet()
    network.load_state_dict(load_file(folder / WEIGHTS))
    return SqueezeNetExtractor(network, sha256_file(folder / WEIGHTS), device)


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


def check_fit(network: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Load the tensors into the network.

    Raises:
        UserError: names or shapes differ.
    """
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        text = " ".join(str(error).split())[:300]
        raise UserError(f"the weights {path} do not fit {type(network).__name__}: {text}") from error


def _download() -> dict[str, Tensor]:
    """torchvision's published file: checked by its SHA-256, read as tensors only (no code in it is run)."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(URL).name
    try:
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(URL, str(path), hash_prefix=URL_SHA256, progress=False)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"no SqueezeNet weights: {URL} cannot be fetched ({error}); fetch it elsewhere to {path}, "
            "or set reference.weights to a safetensors file with torchvision's key names"
        ) from error
    if not hashlib.sha256(path.read_bytes()).hexdigest().startswith(URL_SHA256):
        raise UserError(f"{path} is damaged: its SHA-256 does not start with {URL_SHA256}; delete it")
    tensors: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return tensors
