"""Images → codes and positions (paper section 3.2, Eq. 1-4).

Shapes: B images, H and W pixels, N kept cells, L cells.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.base.precision import Precision, autocast
from models.mqvae import MQVAE
from models.mqvae.masker import random_ranking
from shards.images.pixels import to_tensor
from workspace.exact.seeds import sample_seed


class TokenArrays(NamedTuple):
    """Codes in 0 … K-1 and positions, ascending, in 0 … L-1: int64 [B, N] each."""

    codes: NDArray[np.int64]
    positions: NDArray[np.int64]


def encoder_on(model: MQVAE, device: torch.device) -> MQVAE:
    """The model on a device, in the memory format that is the faster one there.

    GroupNorm has kernels for channels last on a CPU; on a GPU it would turn every grid twice.
    """
    form = torch.channels_last if device.type == "cpu" else torch.contiguous_format
    return model.to(device).to(memory_format=form)  # type: ignore[call-overload, no-any-return]  # its overloads lack the format


def rankings(model: MQVAE, keys: Sequence[str], seed: int) -> Tensor | None:
    """What decides which cells are kept where the mask is random, [B, L]: it follows from (seed, key). Else None."""
    if model.config.mask != "random":
        return None
    seeds = [sample_seed(seed, 0, 0, f"mask/{key}") for key in keys]
    return random_ranking(seeds, model.config.num_positions).to(next(model.parameters()))


def encode(
    model: MQVAE, images: NDArray[np.uint8], keys: Sequence[str], seed: int, precision: Precision = "fp32"
) -> TokenArrays:
    """TokenArrays of a batch.

    Args:
        model: on any device.
        images: uint8 [B, H, W, 3].
        keys: of the images, for random masks.
        seed: likewise.
        precision: of the forward pass.
    """
    weight = next(model.parameters())
    with autocast(precision, weight.device):
        found = model.tokenize(to_tensor(images, weight.device).to(weight.dtype), rankings(model, keys, seed))
    return TokenArrays(found.codes_BN.cpu().numpy(), found.positions_BN.cpu().numpy())
