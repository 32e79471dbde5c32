"""LPIPS v0.1 (Zhang et al. 2018): a perceptual distance from the layers of a frozen classifier.

    d(x, y) = Σ_l mean over places of w_l · (x̂_l - ŷ_l)²

where x̂_l is layer l's activation, each place scaled to unit length, and w_l ≥ 0 the published linear head.
Always in eval mode, frozen and in float32, so that a training step can take it as a callable.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from evaluation.squeezenet import check_fit, read_weights, squeezenet_features
from workspace.errors import UserError

SQUEEZENET_CUTS = (2, 5, 8, 10, 11, 12, 13)
VGG_CUTS = (4, 9, 16, 23, 30)
VGG_LAYERS = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)


class LPIPS(nn.Module):
    """The distance of two batches of images.

    Args:
        backbone: convolutional layers with torchvision's indices, weights loaded.
        cuts: after how many layers each activation is taken.
        heads: w_l, one [C_l] tensor a cut.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, backbone: nn.Sequential, cuts: Sequence[int], heads: Sequence[Tensor]) -> None:
        super().__init__()
        self.cuts = tuple(cuts)
        self.backbone = nn.Sequential(*list(backbone)[: self.cuts[-1]]).float()
        self.heads = nn.ParameterList([nn.Parameter(head.float().reshape(1, -1, 1, 1)) for head in heads])
        self.register_buffer("shift", torch.tensor(SHIFT).reshape(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(SCALE).reshape(1, 3, 1, 1))
        self.requires_grad_(False)
        self.train(False)

    @classmethod
    def squeezenet(cls, backbone: Path, heads: Path) -> Self:
        """From SqueezeNet-1.1 weights and LPIPS heads: safetensors with torchvision's and lpips's key names.

        Raises:
            UserError: a file is missing or does not fit.
        """
        return cls._read(squeezenet_features(), backbone, heads, SQUEEZENET_CUTS)

    @classmethod
    def vgg(cls, backbone: Path, heads: Path) -> Self:
        """The same on VGG-16, the network that VQGAN trains with."""
        return cls._read(vgg_features(), backbone, heads, VGG_CUTS)

    @classmethod
    def _read(cls, network: nn.Sequential, backbone: Path, heads: Path, cuts: Sequence[int]) -> Self:
        prefix = "features."
        tensors = {
            key.removeprefix(prefix): value for key, value in read_weights(backbone).items() if prefix in key
        }
        check_fit(network, tensors, backbone)
        found = read_weights(heads)
        names = [f"lin{index}.model.1.weight" for index in range(len(cuts))]
        missing = [name for name in names if name not in found]
        if missing:
            raise UserError(
                f"the LPIPS heads {heads} lack {missing[0]}; expected {len(cuts)} heads, {names[0]} and on"
            )
        return cls(network, cuts, [found[name] for name in names])

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode, whatever the module that holds this one is in."""
        return super().train(False)

    def forward(self, a_BCHW: Tensor, b_BCHW: Tensor) -> Tensor:
        """Mean distance of pairs of images [B, 3, H, W] in [-1, 1]: a scalar ≥ 0, differentiable in both."""
        return self.distances(a_BCHW, b_BCHW).mean()

    def distances(self, a_BCHW: Tensor, b_BCHW: Tensor) -> Tensor:
        """Distance of each pair, float32 [B]."""
        with torch.autocast(a_BCHW.device.type, enabled=False):
            layers = zip(self.activations(a_BCHW), self.activations(b_BCHW), self.heads, strict=True)
            return torch.stack(
                [(head * (a - b) ** 2).sum(dim=1).mean(dim=(1, 2)) for a, b, head in layers]
            ).sum(dim=0)

    def activations(self, image_BCHW: Tensor) -> list[Tensor]:
        """The layers' activations, each place scaled to unit length over its channels."""
        x_BCHW = (image_BCHW.float() - self.shift) / self.scale
        found = []
        for index, layer in enumerate(self.backbone, start=1):
            x_BCHW = layer(x_BCHW)
            if index in self.cuts:
                length = torch.linalg.vector_norm(x_BCHW, dim=1, keepdim=True)
                found.append(x_BCHW / (length + 1e-10))
        return found


def load_lpips(network: str, backbone: Path | None, heads: Path | None) -> LPIPS:
    """The distance that the settings of a training name.

    Args:
        network: squeezenet or vgg.
        backbone: the network's ImageNet weights, safetensors with torchvision's key names.
        heads: LPIPS v0.1's linear heads for it, safetensors with lpips's key names.

    Raises:
        UserError: a path is not given, a file is missing or does not fit.
    """
    for name, path in (("backbone", backbone), ("heads", heads)):
        if path is None:
            raise UserError(
                f"perceptual.{name} is null; expected a safetensors file for the {network} perceptual loss"
            )
    assert backbone is not None
    assert heads is not None
    return LPIPS.vgg(backbone, heads) if network == "vgg" else LPIPS.squeezenet(backbone, heads)


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
