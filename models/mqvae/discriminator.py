"""PatchGAN (Isola et al. 2017), the discriminator of VQGAN's adversarial loss, with GroupNorm instead of BatchNorm.

With BatchNorm a step would depend on how the batch is split over workers.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from torch import nn

from models.base.pretrained import load_pretrained, save_pretrained
from models.mqvae.autoencoder import group_norm

FOLDER = "discriminator"
"""A discriminator's weights file, in the folder of the MQ-VAE that it was trained with."""


@dataclass(frozen=True)
class DiscriminatorConfig:
    """Sizes of a discriminator; see `PatchDiscriminator`."""

    channels: int
    layers: int


class PatchDiscriminator(nn.Sequential):
    """Image [B, 3, H, W] → a map [B, 1, H', W'] of logits, one per patch.

    Args:
        channels: width of the first layer; it doubles with each layer, up to eight times this.
        layers: 4×4 convolutions of stride 2 (VQGAN: 3).
    """

    def __init__(self, channels: int, layers: int) -> None:
        modules: list[nn.Module] = [nn.Conv2d(3, channels, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        before = channels
        for index in range(1, layers + 1):
            width = channels * min(2**index, 8)
            stride = 2 if index < layers else 1
            modules += [
                nn.Conv2d(before, width, 4, stride=stride, padding=1, bias=False),
                group_norm(width),
                nn.LeakyReLU(0.2),
            ]
            before = width
        super().__init__(*modules, nn.Conv2d(before, 1, 4, padding=1))
        self.sizes = DiscriminatorConfig(channels, layers)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write model.safetensors and config.json."""
        save_pretrained(self, self.sizes, folder)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """Load such a folder, in eval mode, on the CPU; ValueError if the files do not fit each other."""
        return load_pretrained(lambda sizes: cls(sizes.channels, sizes.layers), DiscriminatorConfig, folder)
