"""Images → codes and positions (paper section 3.2, Eq. 1-4).

Shapes: B images, H and W pixels, N kept cells, L cells.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.base.precision import Precision, autocast
from models.mqvae import MQVAE
from models.mqvae.masker import random_ranking
from models.mqvae.model import Tokens
from shards.images import ImageSample
from shards.images.pixels import to_tensor
from workspace.exact.seeds import sample_seed


@dataclass(frozen=True)
class KeyedImages:
    """Input of an MQ-VAE: a batch of images, with keys and a seed, which rank the cells if the mask is random.

    Attributes:
        images: uint8 [B, H, W, 3].
        keys: the images' keys.
        seed: seed of random masks; an image's mask depends only on (seed, key).
    """

    images: NDArray[np.uint8]
    keys: Sequence[str]
    seed: int

    @classmethod
    def of(cls, samples: Sequence[ImageSample], seed: int) -> "KeyedImages":
        """Make a batch from samples of image shards."""
        return cls(np.stack([sample.image for sample in samples]), [sample.key for sample in samples], seed)


class TokenArrays(NamedTuple):
    """Codes in 0 … K-1 and positions, ascending, in 0 … L-1: int64 [B, N] each."""

    codes: NDArray[np.int64]
    positions: NDArray[np.int64]


def encoder_on(model: MQVAE, device: torch.device) -> MQVAE:
    """Move the model to a device, in the memory format that is faster there.

    GroupNorm has channels-last kernels on a CPU; on a GPU it would convert every grid twice.
    """
    form = torch.channels_last if device.type == "cpu" else torch.contiguous_format
    return model.to(device).to(memory_format=form)  # type: ignore[call-overload, no-any-return]  # its overloads lack the format


def rankings(model: MQVAE, batch: KeyedImages) -> Tensor | None:
    """The cells' ranking [B, L] if the mask is random; else None."""
    if model.config.mask != "random":
        return None
    seeds = [sample_seed(batch.seed, 0, 0, f"mask/{key}") for key in batch.keys]
    return random_ranking(seeds, model.config.num_positions).to(next(model.parameters()))


def encode(
    model: MQVAE,
    batch: KeyedImages,
    precision: Precision = "fp32",
    tokenize: Callable[..., Tokens] | None = None,
    kept: int | None = None,
) -> TokenArrays:
    """Codes and positions of a batch.

    Args:
        model: the MQ-VAE, on any device.
        batch: images and keys.
        precision: precision of the forward pass.
        tokenize: the model's compiled `tokenize`; None uses the method uncompiled.
        kept: N, for a model trained for any number of cells; None uses its own.
    """
    weight = next(model.parameters())
    with autocast(precision, weight.device):
        image_BCHW = to_tensor(batch.images, weight.device).to(weight.dtype)
        found = (tokenize or model.tokenize)(image_BCHW, rankings(model, batch), kept)
    return TokenArrays(found.codes_BN.cpu().numpy(), found.positions_BN.cpu().numpy())
