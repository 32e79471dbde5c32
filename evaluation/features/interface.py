"""What a feature extractor is: uint8 images in, one feature vector and class logits an image out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]


@dataclass(frozen=True)
class Features:
    """What an extractor says of B images.

    Attributes:
        features: float32 [B, D].
        logits: head name → float32 [B, C]; one head for the ImageNet networks, one an attribute
            for the proxy.
    """

    features: NDArray[np.float32]
    logits: Mapping[str, NDArray[np.float32]]


class Extractor(Protocol):
    """A frozen network whose features are compared.

    Attributes:
        name: proxy, inception, squeezenet or efficientnet_lite0.
        dim: D.
        fingerprint: SHA-256 (hex) of its weights.
        resize: what it does to an image before the network, in words.
        heads: head name → names of its values; empty where they are not the data's own labels.
    """

    @property
    def name(self) -> str:
        """proxy, inception, squeezenet or efficientnet_lite0."""

    @property
    def dim(self) -> int:
        """D, width of the features."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of its weights."""

    @property
    def resize(self) -> str:
        """What it does to an image before the network, in words."""

    @property
    def heads(self) -> Mapping[str, tuple[str, ...]]:
        """Head name → names of its values; empty where they are not the data's own labels."""

    def __call__(self, images: Images) -> Features:
        """Features of uint8 images [B, H, W, 3]."""
