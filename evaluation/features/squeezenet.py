"""SqueezeNet 1.1 with ImageNet weights as a feature extractor: small, published, and offline once its weights are on disk."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from evaluation.features.interface import Features, Images
from evaluation.perceptual.backbones import SQUEEZENET, SqueezeNet, channels_last, check_fit, weights_of
from workspace.exact.manifest import atomic_path, sha256_file

WEIGHTS = "extractor.safetensors"
SIDE = 224
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class SqueezeNetExtractor:
    """Spatial mean of the last Fire module's 512 channels; images are resized to 224×224 first."""

    name = "squeezenet"
    dim = 512
    resize = "bilinear with antialiasing to 224×224, ImageNet mean and deviation"

    def __init__(self, network: SqueezeNet, fingerprint: str, device: torch.device) -> None:
        self.network = channels_last(network).to(device).eval()
        self.fingerprint = fingerprint
        self.device = device
        self.heads: dict[str, tuple[str, ...]] = {}
        to = torch.tensor([MEAN, DEVIATION], device=device).reshape(2, 1, 3, 1, 1)
        self.mean, self.deviation = to[0], to[1]

    @torch.inference_mode()
    def __call__(self, images: Images) -> Features:
        """Features of uint8 images [B, H, W, 3]."""
        x_BCHW = torch.from_numpy(np.ascontiguousarray(images)).to(self.device).permute(0, 3, 1, 2).float()
        x_BCHW = F.interpolate(
            x_BCHW / 255, (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False
        )
        x_BCHW = ((x_BCHW - self.mean) / self.deviation).contiguous(memory_format=torch.channels_last)
        maps_BDHW = self.network.features(x_BCHW)
        logits_BC = self.network.classifier(maps_BDHW).mean(dim=(2, 3))
        return Features(maps_BDHW.mean(dim=(2, 3)).cpu().numpy(), {"imagenet": logits_BC.cpu().numpy()})


def install_squeezenet(weights: Path | None, folder: Path) -> None:
    """Install the weights into `folder`, from a safetensors file or torchvision's own download.

    Raises:
        UserError: no such file, weights that do not fit, or a failed download; the error says what to fetch and where to put
            it.
    """
    tensors = weights_of(weights, SQUEEZENET, "reference.weights")
    check_fit(SqueezeNet(), tensors, weights or SQUEEZENET.url)
    with atomic_path(folder / WEIGHTS) as temporary:
        save_file(dict(sorted(tensors.items())), temporary)


def load_squeezenet(folder: Path, device: torch.device) -> SqueezeNetExtractor:
    """Load weights installed by `install_squeezenet`."""
    network = SqueezeNet()
    network.load_state_dict(load_file(folder / WEIGHTS))
    return SqueezeNetExtractor(network, sha256_file(folder / WEIGHTS), device)
