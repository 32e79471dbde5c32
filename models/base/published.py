"""Published with a trained model's weights: the facts in its manifest, and its caption tokenizer."""

from dataclasses import dataclass, field

from models.base.later import LEFT_OUT_AT_DEFAULT

TEXT_TOKENIZER = "text_tokenizer.json"
"""Published with a Stackformer whose condition is text: the tokenizer that turns a caption into condition codes."""


@dataclass(frozen=True, kw_only=True)
class TrainedFacts:
    """The facts in either model's manifest.

    Attributes:
        grid: (h, w) in cells.
        num_kept: N.
        num_codes: K.
        parameters: number of learned weights, including an MQ-VAE's codebook.
        steps: optimiser steps of its training.
    """

    grid: tuple[int, int]
    num_kept: int
    num_codes: int
    parameters: int
    steps: int


@dataclass(frozen=True, kw_only=True)
class MQVAEFacts(TrainedFacts):
    """The facts in an MQ-VAE's manifest.

    Attributes:
        image_size: pixels per side.
        kept: fixed, or any: trained for any number of cells, `num_kept` where nothing else is asked for.
    """

    image_size: int
    kept: str = field(default="fixed", metadata=LEFT_OUT_AT_DEFAULT)


@dataclass(frozen=True, kw_only=True)
class StackformerFacts(TrainedFacts):
    """The facts in a Stackformer's manifest.

    Attributes:
        condition: none, class or text.
        classes: class names, or null.
        mqvae: fingerprint of the MQ-VAE whose tokens it learned.
        cfg_dropout: share of samples learned without the condition; null in manifests of older versions.
        fewest_kept: the fewest codes of an image, `num_kept` being the most; absent if all have N.
    """

    condition: str
    classes: tuple[str, ...] | None
    mqvae: str
    cfg_dropout: float | None = None
    fewest_kept: int | None = field(default=None, metadata=LEFT_OUT_AT_DEFAULT)
