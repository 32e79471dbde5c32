"""LPIPS v0.1 (Zhang et al. 2018): a perceptual distance from the layers of a frozen classifier.

    d(x, y) = Σ_l mean over positions of w_l · (x̂_l - ŷ_l)²

where x̂_l is layer l's activation, scaled to unit length at each position, and w_l ≥ 0 the published linear head.
Always frozen and in eval mode, so that a training step can use it as a plain callable; in float32, except for the convolutions
if a training requests bf16.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from evaluation.perceptual.backbones import (
    SQUEEZENET,
    VGG16,
    Published,
    channels_last,
    check_fit,
    squeezenet_features,
    vgg_features,
    weights_of,
)
from shards.images.pixels import to_tensor
from workspace.errors import UserError
from workspace.exact.manifest import sha256_file

SQUEEZENET_CUTS = (2, 5, 8, 10, 11, 12, 13)
VGG_CUTS = (4, 9, 16, 23, 30)
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
HEADS_AT = "https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/master/lpips/weights/v0.1/"
SQUEEZENET_HEADS = Published(
    f"{HEADS_AT}squeeze.pth", "4a5350f23600cb79923ce65bb07cbf57dca461329894153e05a1346bd531cf76"
)
VGG_HEADS = Published(
    f"{HEADS_AT}vgg.pth", "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868"
)


class LPIPS(nn.Module):
    """The distance between two batches of images.

    Args:
        backbone: convolutional layers with torchvision's indices, weights loaded.
        cuts: number of layers before each activation.
        heads: w_l, one [C_l] tensor per cut.
        title: its name in protocols.
    """

    shift: Tensor
    scale: Tensor

    def __init__(
        self, backbone: nn.Sequential, cuts: Sequence[int], heads: Sequence[Tensor], title: str = "LPIPS"
    ) -> None:
        super().__init__()
        self.cuts, self.title = tuple(cuts), title
        self.bf16 = False
        self.backbone = nn.Sequential(*list(backbone)[: self.cuts[-1]]).float()
        self.heads = nn.ParameterList([nn.Parameter(head.float().reshape(1, -1, 1, 1)) for head in heads])
        self.register_buffer("shift", torch.tensor(SHIFT).reshape(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(SCALE).reshape(1, 3, 1, 1))
        channels_last(self)
        self.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode, whatever the mode of the containing module."""
        return super().train(False)

    def forward(self, a_BCHW: Tensor, b_BCHW: Tensor) -> Tensor:
        """Mean distance of pairs of images [B, 3, H, W] in [-1, 1]: a scalar ≥ 0, differentiable in both."""
        return self.distances(a_BCHW, b_BCHW).mean()

    def distances(self, a_BCHW: Tensor, b_BCHW: Tensor) -> Tensor:
        """Distance of each pair, float32 [B]; with convolutions in bf16 if `bf16` is set."""
        device = a_BCHW.device.type
        with torch.autocast(device, torch.bfloat16, enabled=self.bf16):
            a_layers, b_layers = self.activations(a_BCHW), self.activations(b_BCHW)
        with torch.autocast(device, enabled=False):
            layers = zip(a_layers, b_layers, self.heads, strict=True)
            return torch.stack(
                [(head * (a - b) ** 2).sum(dim=1).mean(dim=(1, 2)) for a, b, head in layers]
            ).sum(dim=0)

    @torch.inference_mode()
    def of_images(self, a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Distance of each pair of uint8 images [B, H, W, 3], float64 [B]."""
        sides = (to_tensor(side, self.shift.device) for side in (a, b))
        found: NDArray[np.float64] = self.distances(*sides).double().cpu().numpy()
        return found

    def activations(self, image_BCHW: Tensor) -> list[Tensor]:
        """The layers' activations, scaled to unit length over the channels at each position."""
        x_BCHW = (image_BCHW.float() - self.shift) / self.scale
        x_BCHW = x_BCHW.contiguous(memory_format=torch.channels_last)
        found = []
        for index, layer in enumerate(self.backbone, start=1):
            x_BCHW = layer(x_BCHW)
            if index in self.cuts:
                wide_BCHW = x_BCHW.float()
                length = torch.linalg.vector_norm(wide_BCHW, dim=1, keepdim=True)
                found.append(wide_BCHW / (length + 1e-10))
        return found


@dataclass(frozen=True)
class _Kind:
    """A network: its published weights and heads, and the layers whose activations are used."""

    backbone: Published
    heads: Published
    cuts: tuple[int, ...]

    def network(self) -> nn.Sequential:
        """The convolutional part, weights not loaded."""
        return vgg_features() if self.backbone is VGG16 else squeezenet_features()


_KINDS = {
    "squeezenet": _Kind(SQUEEZENET, SQUEEZENET_HEADS, SQUEEZENET_CUTS),
    "vgg": _Kind(VGG16, VGG_HEADS, VGG_CUTS),
}


@dataclass(frozen=True)
class LPIPSConfig:
    """An LPIPS network and its weights.

    Attributes:
        network: none, squeezenet, or vgg, which VQGAN uses in training.
        backbone: its ImageNet weights, safetensors with torchvision's key names; null downloads torchvision's.
        heads: LPIPS v0.1's linear heads for it, safetensors with lpips's key names; null downloads them.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    network: Literal["none", "squeezenet", "vgg"]
    backbone: Path | None
    heads: Path | None

    def files(self) -> list[Path]:
        """The files that it is read from, without downloads, which are identified by SHA-256."""
        return [path for path in (self.backbone, self.heads) if path is not None and self.network != "none"]

    def absolute(self) -> "LPIPSConfig":
        """The same with absolute paths, because workers may start in another folder."""
        backbone, heads = (path and path.resolve() for path in (self.backbone, self.heads))
        return LPIPSConfig(self.network, backbone, heads)


def load_lpips(config: LPIPSConfig, section: str) -> LPIPS | None:
    """The distance that a section of the settings names; None for network `none`.

    Args:
        config: the section.
        section: its name for errors: mqvae.perceptual, …

    Raises:
        UserError: a file is missing or does not fit, or a download failed; the error says what to fetch and where to put it.
    """
    if config.network == "none":
        return None
    backbone, heads = config.backbone, config.heads
    kind = _KINDS[config.network]
    module = kind.network()
    found = weights_of(backbone, kind.backbone, f"{section}.backbone")
    prefix = "features."
    layers = {key.removeprefix(prefix): value for key, value in found.items() if key.startswith(prefix)}
    check_fit(module, layers, backbone or kind.backbone.url)
    tensors = weights_of(heads, kind.heads, f"{section}.heads")
    names = [f"lin{index}.model.1.weight" for index in range(len(kind.cuts))]
    missing = [name for name in names if name not in tensors]
    if missing:
        raise UserError(
            f"the LPIPS heads {heads} lack {missing[0]}; expected {len(names)} heads, {names[0]} and on"
        )
    hashes = [sha256_file(path) for path in (backbone or kind.backbone.cached, heads or kind.heads.cached)]
    title = f"LPIPS v0.1, {config.network} {hashes[0]}, heads {hashes[1]}"
    return LPIPS(module, kind.cuts, [tensors[name] for name in names], title)
