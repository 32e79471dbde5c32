"""The losses that compare an image with its reconstruction (paper section 3.2, "as in VQGAN").

Shapes: B images, C = 3 channels, H and W pixels.
"""

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor

from settings.mqvae import LossConfig
from training.mqvae.shift import offsets, shifted

Perceptual = Callable[[Tensor, Tensor], Tensor]
"""Images x, x̂ [B, 3, H, W] in [-1, 1] → a scalar distance, differentiable with respect to x̂."""


def reconstruction_terms(
    loss: LossConfig,
    perceptual: Perceptual | None,
    image_BCHW: Tensor,
    recovered_BCHW: Tensor,
    seeds: Sequence[int],
) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted sum of the terms, and the single terms; a perceptual weight needs its distance.

    Args:
        loss: the weights.
        perceptual: the perceptual distance.
        image_BCHW: the images.
        recovered_BCHW: their reconstructions.
        seeds: one per image, for the offset at which both are compared.
    """
    terms = {"l1": F.l1_loss(recovered_BCHW, image_BCHW), "l2": F.mse_loss(recovered_BCHW, image_BCHW)}
    total = loss.l1 * terms["l1"] + loss.l2 * terms["l2"]
    if loss.perceptual:
        assert perceptual is not None
        pair = image_BCHW, recovered_BCHW
        if most := loss.perceptual_shift:
            places = offsets(seeds, most)
            pair = shifted(image_BCHW, places, most), shifted(recovered_BCHW, places, most)
        terms["perceptual"] = perceptual(*pair)
        total = total + loss.perceptual * terms["perceptual"]
    return total, terms
