"""What is published of a trained model beside its weights: the facts in its manifest, the codes of its captions."""

from dataclasses import dataclass

TEXT_TOKENIZER = "text_tokenizer.json"
"""Beside the weights of a Stackformer whose condition is text: turns a caption into its condition codes."""


@dataclass(frozen=True, kw_only=True)
class TrainedFacts:
    """What the manifest of either model says.

    Attributes:
        grid: (h, w) in cells.
        num_kept: N.
        num_codes: K.
        parameters: weights that are learned, an MQ-VAE's codebook included.
        steps: optimiser steps of its training.
    """

    grid: tuple[int, int]
    num_kept: int
    num_codes: int
    parameters: int
    steps: int


@dataclass(frozen=True, kw_only=True)
class MQVAEFacts(TrainedFacts):
    """Facts of an MQ-VAE's manifest.

    Attributes:
        image_size: pixels per side.
    """

    image_size: int


@dataclass(frozen=True, kw_only=True)
class StackformerFacts(TrainedFacts):
    """Facts of a Stackformer's manifest.

    Attributes:
        condition: none, class or text.
        classes: class names, or null.
        mqvae: fingerprint of the MQ-VAE whose tokens it learned.
        cfg_dropout: share of samples that were learned without the condition; null where an older version wrote it.
    """

    condition: str
    classes: tuple[str, ...] | None
    mqvae: str
    cfg_dropout: float | None = None
