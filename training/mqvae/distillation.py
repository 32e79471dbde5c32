"""A scorer that learns what leaving a cell out costs (not in the paper: Eq. 3 alone never asks).

Of each image some kept cells are left out, one at a time, and it is decoded without: its squared error then is the cell's worth.
Of two cells the one that is worth more is to have the higher logit (RankNet, Burges et al. 2005), the more so the more it is
worth, because most cells' worth is hardly above the noise of which others are kept (docs/log.md):

    loss = Σ |worth_a - worth_b| · log(1 + exp(-sign(worth_a - worth_b) · (logit_a - logit_b)))  /  Σ |worth_a - worth_b|

with sums over an image's pairs, and the mean over images.

The decoder must know images without these cells: it does while cells are chosen at random (`exploration`).

Shapes: B images, N kept cells, L cells of the grid, M cells left out, D features, C = 3, H and W pixels.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from models.base.moving import sent
from models.mqvae import MQVAE, MQVAEOutput
from workspace.exact.seeds import hashed

LEFT_OUT = 4
"""M: as many decoder passes are added to a step, without their backward passes."""


def left_out(seeds: Sequence[int], kept: int) -> Tensor:
    """Which of the N kept cells, int64 [B, M], all different; row b depends only on `seeds[b]`."""
    generators = [torch.Generator().manual_seed(hashed(seed, "left out") >> 1) for seed in seeds]
    return torch.stack([torch.randperm(kept, generator=one)[:LEFT_OUT] for one in generators])


@torch.no_grad()
def worth(
    model: MQVAE, image_BCHW: Tensor, vectors_BND: Tensor, positions_BN: Tensor, places_BM: Tensor
) -> Tensor:
    """The images' mean squared error without each of the cells, [B, M].

    Args:
        model: its decoder is used.
        image_BCHW: in [-1, 1].
        vectors_BND: the kept cells as they are decoded.
        positions_BN: their positions.
        places_BM: which of the N are left out.
    """
    batch, kept = positions_BN.shape
    errors = []
    for place_B1 in places_BM.split(1, dim=1):
        stays_BN = torch.ones_like(positions_BN, dtype=torch.bool).scatter(1, place_B1, False)
        without = model.decode(
            vectors_BND[stays_BN].view(batch, kept - 1, -1), positions_BN[stays_BN].view(batch, kept - 1)
        )
        errors.append((without - image_BCHW).square().mean(dim=(1, 2, 3)))
    return torch.stack(errors, dim=1)


def ranking_loss(logits_BM: Tensor, worth_BM: Tensor) -> Tensor:
    """The loss of B images' cells, a scalar; pairs of equal worth teach nothing."""
    first, second = torch.triu_indices(logits_BM.shape[1], logits_BM.shape[1], 1, device=logits_BM.device)
    more_BP = (worth_BM[:, first] - worth_BM[:, second]).to(logits_BM.dtype)
    weight_BP = more_BP.abs() / more_BP.abs().sum(-1, keepdim=True).clamp_min(1e-12)
    wrong_BP = F.softplus(-more_BP.sign() * (logits_BM[:, first] - logits_BM[:, second]))
    return (weight_BP * wrong_BP).sum(-1).mean()


def distillation(
    model: MQVAE, image_BCHW: Tensor, output: MQVAEOutput, seeds: Sequence[int], bypass_quantizer: bool
) -> Tensor:
    """The loss of a micro-batch, a scalar, whose gradient reaches the scorer alone if scores are frozen.

    Args:
        model: whose decoder is asked.
        image_BCHW: in [-1, 1].
        output: of these images, with its logits.
        seeds: one per image.
        bypass_quantizer: whether features went to the decoder unquantised.
    """
    assert output.logits_BL is not None
    places_BM = sent(left_out(seeds, output.positions_BN.shape[1]), image_BCHW.device)
    vectors_BND = output.features_BND if bypass_quantizer else model.quantizer.lookup(output.codes_BN)
    worth_BM = worth(model, image_BCHW, vectors_BND.detach(), output.positions_BN, places_BM)
    return ranking_loss(output.logits_BL.gather(1, output.positions_BN.gather(1, places_BM)), worth_BM)
