"""Codes and positions → images (paper section 3.2, decoder)."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from models.base.precision import Precision, autocast
from models.mqvae import MQVAE
from shards.images.pixels import to_uint8


def decode(
    model: MQVAE, codes_BN: Tensor, positions_BN: Tensor, batch: int, precision: Precision = "fp32"
) -> NDArray[np.uint8]:
    """Images, uint8 [B, H, W, 3].

    Args:
        model: the MQ-VAE, on the tokens' device.
        codes_BN: int64 in 0 … K-1.
        positions_BN: int64 in 0 … L-1, distinct within an image.
        batch: images decoded at a time.
        precision: precision of the forward pass.
    """
    parts = zip(codes_BN.split(batch), positions_BN.split(batch), strict=True)
    with autocast(precision, codes_BN.device):
        images = [model.decode_tokens(*part).float().cpu().numpy() for part in parts]
    return to_uint8(np.concatenate(images))
