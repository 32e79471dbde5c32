"""Encode and decode images with the MQ-VAE (paper Figure 4), from the N cells that it keeps, or from fewer or more.

Shapes: B images, H and W pixels, L cells, N kept.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from inference.encode import KeyedImages, rankings
from models.base.precision import Precision, autocast
from models.mqvae import MQVAE
from shards.images import ImageSample
from shards.images.pixels import to_float, to_uint8

SHARES = (1 / 16, 1 / 8, 1 / 4, 3 / 8, 1 / 2, 5 / 8, 3 / 4, 7 / 8, 1.0)
"""Shares of the cells from which `from_other_counts` reconstructs."""


@dataclass(frozen=True)
class Reconstructed:
    """Reconstructions of a batch.

    Attributes:
        images: uint8 [B, H, W, 3].
        scores: importance, float32 [B, L].
        ranking: the values by which cells were ranked, float32 [B, L]; equal to the scores unless the mask is random.
        codes: int64 [B, N].
        positions: int64 [B, N], ascending.
    """

    images: NDArray[np.uint8]
    scores: NDArray[np.float32]
    ranking: NDArray[np.float32]
    codes: NDArray[np.int64]
    positions: NDArray[np.int64]

    @property
    def order(self) -> NDArray[np.int64]:
        """Cells from the most to the least important, int64 [B, L]; the model keeps the first N."""
        kept = np.zeros(self.scores.shape, dtype=bool)
        np.put_along_axis(kept, self.positions, True, axis=1)
        return np.lexsort((-self.ranking, ~kept), axis=1)


@torch.inference_mode()
def reconstruct(
    model: MQVAE, batch: KeyedImages, precision: Precision = "fp32", kept: int | None = None
) -> Reconstructed:
    """Reconstruct a batch from the cells that `encode` keeps, with the same arguments."""
    parameter = next(model.parameters())
    image_BCHW = torch.from_numpy(to_float(batch.images)).to(parameter)
    ranking_BL = rankings(model, batch)
    with autocast(precision, parameter.device):
        output = model(image_BCHW, ranking_BL, kept=kept)
    return Reconstructed(
        images=to_uint8(output.reconstruction_BCHW.float().cpu().numpy()),
        scores=output.scores_BL.float().cpu().numpy(),
        ranking=(output.scores_BL if ranking_BL is None else ranking_BL).float().cpu().numpy(),
        codes=output.codes_BN.cpu().numpy(),
        positions=output.positions_BN.cpu().numpy(),
    )


def reconstructions(
    model: MQVAE, batches: Iterable[Sequence[ImageSample]], seed: int, precision: Precision
) -> Iterator[tuple[Sequence[ImageSample], Reconstructed]]:
    """Yields each batch of samples with its reconstructions."""
    for samples in batches:
        yield samples, reconstruct(model, KeyedImages.of(samples, seed), precision)


@torch.inference_mode()
def from_other_counts(
    model: MQVAE, images: NDArray[np.uint8], back: Reconstructed
) -> dict[int, NDArray[np.uint8]]:
    """Reconstruct uint8 [B, H, W, 3] from the n best cells, for each n of `SHARES` except N: n → images of the same shape.

    Shows how the model, trained with N cells, does with fewer or more; empty if the model masks nothing.
    """
    config = model.config
    if config.mask == "none":
        return {}
    counts = {max(1, round(share * config.num_positions)) for share in SHARES} - {config.num_kept}
    all_cells = MQVAE(replace(config, mask_ratio=0.0)).eval()
    all_cells.load_state_dict(model.state_dict())
    image_BCHW, order_BL = torch.from_numpy(to_float(images)), torch.from_numpy(back.order)
    codes_BL = all_cells.tokenize(image_BCHW, torch.from_numpy(back.ranking)).codes_BN
    made = {}
    for count in sorted(counts):
        positions_BN = order_BL[:, :count]
        made[count] = to_uint8(model.decode_tokens(codes_BL.gather(1, positions_BN), positions_BN).numpy())
    return made
