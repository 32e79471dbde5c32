"""The adaptive mask module (paper section 3.2, Eq. 2-4): chooses the cells that get a code.

    s_l = f_s(z_l)                                   (2)   a two-layer MLP, or convolutions, with a sigmoid output
    Ẑ   = { LayerNorm(z'_l) * s'_l }, l = 1..N       (3)   of the N best-scored cells
    P̂   = their positions in the grid                (4)   0-based, ascending (raster order)

A cell's rank and code do not depend on N, so an image's choices for different `kept` are nested prefixes of one order.

Shapes: B images, L cells of the grid, N kept cells (or slots, if images keep different numbers), D features.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from models.mqvae.choosers import FIXED
from models.mqvae.relaxed import Relaxed, relaxed_choice
from models.mqvae.scorers import ScorerKind, scorer

MaskKind = Literal["adaptive", "random", "checkerboard", "gradient", "entropy", "none"]
MaskEstimator = Literal["score", "straight_through"]
"""How the scores learn: by the product of Eq. 3, of kept cells alone, or by a relaxed choice of all cells as well."""
KeptKind = Literal["fixed", "any"]
"""Number of cells kept per image in training: always N, or a number in 1 … L drawn for each image."""


@dataclass(frozen=True)
class Masked:
    """The kept part of a grid of features.

    Attributes:
        features_BND: the kept features, modulated by their scores and projected, in raster order.
        positions_BN: int64, their positions, ascending in 0 … L-1; if images keep different numbers of cells there are N = L
            slots in raster order, and an empty slot has position L.
        scores_BL: importance in (0, 1): the scores of Eq. 2, or the ranks of a fixed rule; ones if nothing is masked.
        kept_BL: bool, True at the kept positions.
        ranks_BL: what cells were ranked by, the highest first.
        logits_BL: the scores before the sigmoid, with their gradient, where the cells are chosen by score.
        relaxed: the choice for the backward pass, where it passes a gradient (models/mqvae/relaxed.py).
    """

    features_BND: Tensor
    positions_BN: Tensor
    scores_BL: Tensor
    kept_BL: Tensor
    ranks_BL: Tensor
    logits_BL: Tensor | None = None
    relaxed: Relaxed | None = None


def num_kept(mask_ratio: float, num_positions: int) -> int:
    """N = round((1 - mask_ratio) * L), half to even. N is computed nowhere else."""
    return round((1 - mask_ratio) * num_positions)


def drawn_count(unit: float, num_positions: int, power: float) -> int:
    """A number of cells in 1 … L, from a uniform number in [0, 1]: N / L has a density in proportion to (N / L)^power."""
    return min(1 + int(num_positions * unit ** (1 / (1 + power))), num_positions)


def random_ranking(seeds: Sequence[int], num_positions: int) -> Tensor:
    """Standard normal numbers [B, L], float32; row b depends only on `seeds[b]` (0 ≤ seed < 2⁶³)."""
    form: dict[str, Any] = {"dtype": torch.float32, "device": "cpu"}
    rows = [
        torch.randn(num_positions, generator=torch.Generator().manual_seed(seed), **form) for seed in seeds
    ]
    return torch.stack(rows)


def top_positions(ranking_BL: Tensor, kept: int) -> Tensor:
    """Positions [B, kept] of the highest-ranked cells, ascending; among equal ranks the earlier cell wins."""
    order_BL = ranking_BL.argsort(dim=-1, descending=True, stable=True)
    return order_BL[:, :kept].sort(dim=-1).values


def best_cells(ranking_BL: Tensor, kept_B: Tensor) -> Tensor:
    """Bool [B, L]: the `kept_B[b]` highest-ranked cells of image b; among equal ranks the earlier cell wins."""
    order_BL = ranking_BL.argsort(dim=-1, descending=True, stable=True)
    within_BL = torch.arange(order_BL.shape[1], device=order_BL.device) < kept_B[:, None]
    return torch.zeros_like(within_BL).scatter(1, order_BL, within_BL)


def slots_of(kept_BL: Tensor) -> Tensor:
    """Positions of L slots in raster order, int64 [B, L]: slot l has position l if cell l is kept, else L."""
    length = kept_BL.shape[1]
    return torch.arange(length, device=kept_BL.device).expand_as(kept_BL).masked_fill(~kept_BL, length)


class Masker(nn.Module):
    """Scores every cell and keeps the N highest (Eq. 2-4).

    The scorer gets its gradient through the multiplication of Eq. 3 on kept cells, because the choice itself has none unless
    the estimator is straight_through. With `mask: random` only the ranking changes and the multiplication remains; a fixed rule
    (`models.mqvae.choosers`) has neither scorer nor multiplication; `none` keeps every cell, unscored.

    Args:
        dim: D, width of the features.
        kept: N, the number of kept cells.
        mask: adaptive (by score), random (by the caller's ranking), a fixed rule (likewise), none.
        scorer_width: hidden width of the scoring network.
        scorer_kind: mlp (the paper's) or conv (the authors' code).
        estimator: score (the paper's) or straight_through (in training, if mask is adaptive).
    """

    def __init__(
        self,
        dim: int,
        kept: int,
        mask: MaskKind,
        scorer_width: int,
        scorer_kind: ScorerKind = "mlp",
        estimator: MaskEstimator = "score",
    ) -> None:
        super().__init__()
        self.kept, self.mask, self.estimator = kept, mask, estimator
        self.to_code = nn.Linear(dim, dim)
        if mask in ("adaptive", "random"):
            # no learned gain, because the linear projection after it (to_code) includes one
            self.norm = nn.LayerNorm(dim, elementwise_affine=False)
            self.scorer = scorer(scorer_kind, dim, scorer_width)

    def forward(
        self,
        z_BLD: Tensor,
        ranking_BL: Tensor | None = None,
        exploration: float = 0.0,
        frozen: bool = False,
        kept: int | Tensor | None = None,
    ) -> Masked:
        """Keep the N most important cells.

        Args:
            z_BLD: the encoder's features.
            ranking_BL: if mask is random, random numbers that rank the cells; for a fixed rule, the rule's ranks; if mask is
                adaptive, the exploration noise, or None.
            exploration: weight of that noise added to the scores' logits, which are divided by their standard deviation
                within the image; 0 is exactly the paper's ranking.
            frozen: the scores of Eq. 3 pass no gradient, neither to the scorer nor through it to the encoder; nor does the
                choice.
            kept: number of cells to keep instead of N: one for all images, or int64 [B], one per image (1 … L), or [B · M], M
                per image, those of an image one after the other: results then have B · M rows.

        Raises:
            ValueError: mask is neither adaptive nor none, and no ranking was given.
        """
        if self.mask == "none":
            return self._keep_all(z_BLD)
        if isinstance(kept, Tensor) and len(kept) > len(z_BLD):
            times = len(kept) // len(z_BLD)
            z_BLD = z_BLD.repeat_interleave(times, dim=0)
            ranking_BL = None if ranking_BL is None else ranking_BL.repeat_interleave(times, dim=0)
        if self.mask in FIXED:
            ranks_BL = self._given(ranking_BL)
            return self._keep(z_BLD, ranks_BL, ranks_BL, kept)
        # a frozen scorer may still learn by `Masked.logits_BL`, and the encoder must not
        logits_BL = self.scorer(z_BLD.detach() if frozen else z_BLD).squeeze(-1)
        scores_BL = logits_BL.sigmoid()  # (2)
        scores_BL = scores_BL.detach() if frozen else scores_BL
        modulated_BLD = self.norm(z_BLD) * scores_BL[..., None]  # (3)
        ranks_BL = self._ranking(logits_BL.detach(), ranking_BL, exploration)
        masked = self._keep(modulated_BLD, ranks_BL, scores_BL, kept)
        if self.mask == "random":
            return masked
        relaxed = None
        if self.estimator == "straight_through" and self.training and not frozen:
            relaxed = self._relaxed(logits_BL, ranking_BL, exploration, masked.kept_BL, modulated_BLD)
        return replace(masked, logits_BL=logits_BL, relaxed=relaxed)

    def _relaxed(
        self,
        logits_BL: Tensor,
        ranking_BL: Tensor | None,
        exploration: float,
        kept_BL: Tensor,
        cells_BLD: Tensor,
    ) -> Relaxed:
        """The choice for the backward pass, of cells whose scores are left alone by it."""
        y_BL = _explored(logits_BL, ranking_BL, exploration)
        return Relaxed(relaxed_choice(y_BL, kept_BL.sum(-1)), self.to_code(cells_BLD).detach())

    def _keep(
        self, cells_BLD: Tensor, ranks_BL: Tensor, scores_BL: Tensor, kept: int | Tensor | None
    ) -> Masked:
        """The best-ranked cells, projected."""
        if isinstance(kept, Tensor):
            kept_BL = best_cells(ranks_BL, kept)
            return Masked(self.to_code(cells_BLD), slots_of(kept_BL), scores_BL, kept_BL, ranks_BL)
        positions_BN = top_positions(ranks_BL, self.kept if kept is None else kept)  # (4)
        index_BND = positions_BN[..., None].expand(-1, -1, cells_BLD.shape[-1])
        features_BND = self.to_code(cells_BLD.gather(1, index_BND))
        kept_BL = torch.zeros_like(scores_BL, dtype=torch.bool).scatter(1, positions_BN, True)
        return Masked(features_BND, positions_BN, scores_BL, kept_BL, ranks_BL)

    def _given(self, ranking_BL: Tensor | None) -> Tensor:
        if ranking_BL is None:
            raise ValueError(f"mask: {self.mask} ranks cells by the caller's numbers: pass ranking_BL")
        return ranking_BL

    def _ranking(self, logits_BL: Tensor, ranking_BL: Tensor | None, exploration: float) -> Tensor:
        if self.mask == "random":
            return self._given(ranking_BL)
        if ranking_BL is None or exploration == 0.0:
            return logits_BL
        return _explored(logits_BL, ranking_BL, exploration)

    def _keep_all(self, z_BLD: Tensor) -> Masked:
        batch, length = z_BLD.shape[:2]
        positions_BN = torch.arange(length, device=z_BLD.device).expand(batch, -1)
        ones_BL = z_BLD.new_ones(batch, length)
        return Masked(self.to_code(z_BLD), positions_BN, ones_BL, ones_BL.bool(), ones_BL)


def _explored(logits_BL: Tensor, noise_BL: Tensor | None, exploration: float) -> Tensor:
    """The logits in units of their standard deviation, with noise of this weight if there is any: what ranks the cells."""
    standard_BL = logits_BL / _spread(logits_BL)
    return standard_BL if noise_BL is None else standard_BL + exploration * noise_BL


def _spread(logits_BL: Tensor) -> Tensor:
    """Standard deviation [B, 1], a constant; per image, because else an image's cells would depend on its micro-batch."""
    return logits_BL.detach().std(dim=-1, keepdim=True, correction=0).clamp_min(1e-6)


def fill_slots(features_BND: Tensor, positions_BN: Tensor, mask_code_D: Tensor, num_positions: int) -> Tensor:
    """Like `fill`, for images with different numbers of cells: slots at position L are empty."""
    # an extra cell L collects the empty slots, and is cut off
    return fill(features_BND, positions_BN, mask_code_D, num_positions + 1)[:, :num_positions]


def fill(features_BND: Tensor, positions_BN: Tensor, mask_code_D: Tensor, num_positions: int) -> Tensor:
    """Put features back at their positions and the mask code everywhere else: [B, N, D] → [B, L, D]."""
    batch, _, dim = features_BND.shape
    grid_BLD = mask_code_D.to(features_BND.dtype).expand(batch, num_positions, dim)
    return grid_BLD.scatter(1, positions_BN[..., None].expand(-1, -1, dim), features_BND)
