"""What the manifests of trained models say of them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class MQVAEFacts:
    """Of an MQ-VAE.

    Attributes:
        grid: (h, w) in cells.
        num_kept: N.
        num_codes: K.
        image_size: pixels a side.
        parameters: weights that are learned, the codebook included.
        steps: optimiser steps of its training.
    """

    grid: tuple[int, int]
    num_kept: int
    num_codes: int
    image_size: int
    parameters: int
    steps: int


@dataclass(frozen=True)
class StackformerFacts:
    """Of a Stackformer.

    Attributes:
        grid: (h, w) in cells.
        num_kept: N.
        num_codes: K.
        condition: none, class or text.
        classes: class names, or null.
        mqvae: fingerprint of the MQ-VAE whose tokens it learned.
        parameters: weights that are learned.
        steps: optimiser steps of its training.
        cfg_dropout: share of samples that were learned without the condition; null where an older version wrote it.
    """

    grid: tuple[int, int]
    num_kept: int
    num_codes: int
    condition: str
    classes: tuple[str, ...] | None
    mqvae: str
    parameters: int
    steps: int
    cfg_dropout: float | None = None
