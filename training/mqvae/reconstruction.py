"""The losses that compare an image with its reconstruction (paper section 3.2, "as in VQGAN").

Shapes: B images, C = 3 channels, H and W pixels.
"""

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor

from settings.mqvae import LossConfig
from training.mqvae.views import seen, views

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
        seeds: one per image, for the view in which both are compared.
    """
    terms = {"l1": F.l1_loss(recovered_BCHW, image_BCHW), "l2": F.mse_loss(recovered_BCHW, image_BCHW)}
    total = loss.l1 * terms["l1"] + loss.l2 * terms["l2"]
    if loss.perceptual:
        assert perceptual is not None
        scale, most = loss.perceptual_scale, loss.perceptual_shift
        chosen = views(seeds, scale, most)
        pair = (seen(side_BCHW, chosen, scale, most) for side_BCHW in (image_BCHW, recovered_BCHW))
        terms["perceptual"] = perceptual(*pair)
        total = total + loss.perceptual * terms["perceptual"]
    return total, terms
