"""How images are drawn, and what is drawn.

Shapes: B images, N codes.
"""

import math
from dataclasses import dataclass

from torch import Tensor

from models.sampling.choice import Truncation


@dataclass(frozen=True)
class SamplingSettings:
    """How images are drawn.

    Attributes:
        guidance_scale: g in null + g · (conditioned - null), on logits; 1 is unguided, 0 ignores the condition.
        code: truncation for codes.
        position: truncation for positions.
    """

    guidance_scale: float
    code: Truncation
    position: Truncation

    def __post_init__(self) -> None:
        if not math.isfinite(self.guidance_scale):
            raise ValueError(f"guidance_scale is {self.guidance_scale}, expected a finite number")


@dataclass(frozen=True)
class Sampled:
    """codes_BN int64 in 0 … K-1, in the order they were drawn; positions_BN int64 in 0 … L-1, distinct.

    If images have different numbers of codes, N is that of the longest allowed, and slots after an image's last code are at L.
    """

    codes_BN: Tensor
    positions_BN: Tensor
