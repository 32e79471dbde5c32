"""The interface of feature extractors: uint8 images in, one feature vector and class logits per image out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]


@dataclass(frozen=True)
class Features:
    """An extractor's output for B images.

    Attributes:
        features: float32 [B, D].
        logits: head name → float32 [B, C]; one head for the ImageNet networks, one per attribute
            for the proxy.
        second: float32 [B, D₂] of a second network, whose scores are reported beside; None without one.
    """

    features: NDArray[np.float32]
    logits: Mapping[str, NDArray[np.float32]]
    second: NDArray[np.float32] | None = None


class Extractor(Protocol):
    """A frozen network that computes features.

    Attributes:
        name: proxy, inception, squeezenet or efficientnet_lite0.
        dim: D.
        fingerprint: SHA-256 (hex) of its weights.
        resize: how it resizes images before the network, as text.
        heads: head name → names of its values; empty if they are not the data's own labels.
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
        """How it resizes images before the network, as text."""

    @property
    def heads(self) -> Mapping[str, tuple[str, ...]]:
        """Head name → names of its values; empty if they are not the data's own labels."""

    def __call__(self, images: Images) -> Features:
        """Features of uint8 images [B, H, W, 3]."""
