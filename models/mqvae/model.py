"""MQ-VAE (paper section 3.2): encoder → adaptive mask → quantisation → adaptive de-mask → decoder.

Shapes: B images, C = 3 channels, H and W pixels, L = side² cells of the grid, N kept cells, D = n_z features.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight

from models.base.given import as_tokens, require_images
from models.base.later import LEFT_OUT_AT_DEFAULT
from models.base.pretrained import load_pretrained, save_pretrained
from models.mqvae.autoencoder import Decoder, Encoder
from models.mqvae.choosers import FIXED, fixed_ranking
from models.mqvae.demasker import Demasker, DemaskKind
from models.mqvae.masker import KeptKind, Masker, MaskEstimator, MaskKind, fill, fill_slots, num_kept
from models.mqvae.quantizer import Quantizer, QuantizerConfig
from models.mqvae.relaxed import Relaxed
from models.mqvae.scorers import ScorerKind


@dataclass(frozen=True)
class MQVAEConfig:
    """Architecture of an MQ-VAE.

    Attributes:
        image_size: pixels per side, a multiple of f (≥ 1).
        patch_size: space-to-depth factor before the first convolution; 1 is VQGAN's encoder (≥ 1).
        channels: ch, width of the first level (≥ 1).
        channel_multipliers: factors of `channels`, one per level; f = patch_size · 2^(levels - 1) (each ≥ 1).
        res_blocks: ResBlocks per level (≥ 1).
        attention: whether the grid's level attends over the grid, in encoder and decoder.
        code_dim: n_z, features of a cell and of a code (≥ 1).
        num_codes: K, codes of the codebook (≥ 2, ≤ 65536).
        mask: adaptive (the paper), random (its ablation), checkerboard, gradient, entropy (rules without learning,
            models/mqvae/choosers.py), none (VQGAN).
        mask_ratio: share of the cells that is not quantised; 0 if mask is none; the default share if kept is any (≥ 0, < 1).
        scorer_width: hidden width of the scoring network, Eq. 2 (≥ 1).
        demask: dcsa_update (the paper), dcsa, sa, none (its ablations), dcsa_renormalised.
        demask_blocks: H, sub-modules of the de-mask blocks (≥ 1).
        quantizer: how the codebook is learned.
        refine: channels of a last 3×3 convolution at full resolution in the decoder; 0 has none, like VQGAN (≥ 0).
        kept: fixed (the paper: N cells per image in training) or any (1 … L, drawn for each image).
        scorer: the scoring network: mlp (the paper) or conv (the authors' code; see models/mqvae/scorers.py).
        mask_estimator: how the scores learn: score (the paper: through the product of Eq. 3, on kept cells) or straight_through
            (through a relaxed choice too, on all cells; see models/mqvae/relaxed.py). Only with mask adaptive.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    image_size: int
    patch_size: int
    channels: int
    channel_multipliers: tuple[int, ...]
    res_blocks: int
    attention: bool
    code_dim: int
    num_codes: int
    mask: MaskKind
    mask_ratio: float
    scorer_width: int
    demask: DemaskKind
    demask_blocks: int
    quantizer: QuantizerConfig
    refine: int = 0
    kept: KeptKind = field(default="fixed", metadata=LEFT_OUT_AT_DEFAULT)
    scorer: ScorerKind = field(default="mlp", metadata=LEFT_OUT_AT_DEFAULT)
    mask_estimator: MaskEstimator = field(default="score", metadata=LEFT_OUT_AT_DEFAULT)

    def __post_init__(self) -> None:
        if self.refine < 0:
            raise ValueError(f"refine is {self.refine}, expected ≥ 0")
        for name in (
            "image_size",
            "patch_size",
            "channels",
            "res_blocks",
            "code_dim",
            "scorer_width",
            "demask_blocks",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected ≥ 1")
        if not self.channel_multipliers or min(self.channel_multipliers) < 1:
            raise ValueError(
                f"channel_multipliers is {list(self.channel_multipliers)}, expected one whole number ≥ 1 per level"
            )
        if self.num_codes < 2 or self.num_codes > 65536:
            raise ValueError(
                f"num_codes is {self.num_codes}, expected 2 ≤ num_codes ≤ 65536 (codes are stored as uint16)"
            )
        if self.image_size % self.downsampling:
            raise ValueError(
                f"image_size {self.image_size} is not divisible by the down-sampling {self.downsampling} "
                f"(patch_size {self.patch_size} × 2^{len(self.channel_multipliers) - 1}); change "
                "image_size, patch_size or channel_multipliers"
            )
        if not 0 <= self.mask_ratio < 1:
            raise ValueError(f"mask_ratio is {self.mask_ratio}, expected 0 ≤ mask_ratio < 1")
        if self.mask == "none" and self.mask_ratio:
            raise ValueError(f"mask_ratio is {self.mask_ratio} and mask is none; expected mask_ratio 0")
        if self.mask_estimator != "score" and self.mask != "adaptive":
            raise ValueError(
                f"mask_estimator is {self.mask_estimator} and mask is {self.mask}, which learns no choice; expected "
                "mask_estimator score, or mask adaptive"
            )
        if self.mask == "none" and self.kept == "any":
            raise ValueError("kept is any and mask is none; expected kept fixed (all cells are kept)")
        if self.num_kept < 1:
            raise ValueError(
                f"mask_ratio {self.mask_ratio} keeps N = {self.num_kept} of L = {self.num_positions} cells; expected N ≥ 1"
            )

    @property
    def downsampling(self) -> int:
        """f, pixels per side of a cell."""
        return self.patch_size << (len(self.channel_multipliers) - 1)

    @property
    def grid(self) -> int:
        """Cells per side."""
        return self.image_size // self.downsampling

    @property
    def num_positions(self) -> int:
        """L."""
        return self.grid**2

    @property
    def num_kept(self) -> int:
        """N."""
        return num_kept(self.mask_ratio, self.num_positions)


@dataclass(frozen=True)
class Tokens:
    """Images in stored form: codes_BN int64 in 0 … K-1, positions_BN int64 ascending in 0 … L-1.

    If images have different numbers of codes, N counts slots, and a slot at position L is empty.
    """

    codes_BN: Tensor
    positions_BN: Tensor


@dataclass(frozen=True)
class OrderedCells:
    """All cells of images, whose prefixes are what they keep.

    Attributes:
        codes_BL: int64 in 0 … K-1, in raster order of the cells.
        order_BL: int64, the cells from the most to the least important.
    """

    codes_BL: Tensor
    order_BL: Tensor

    def first(self, count: int) -> Tokens:
        """The `count` most important cells, in raster order."""
        positions_BN = self.order_BL[:, :count].sort(dim=1).values
        return Tokens(self.codes_BL.gather(1, positions_BN), positions_BN)


@dataclass(frozen=True)
class MQVAEOutput:
    """Results of a forward pass.

    Attributes:
        reconstruction_BCHW: float, not clamped; images are in [-1, 1].
        scores_BL: importance of each cell, (0, 1).
        kept_BL: bool.
        codes_BN: int64.
        positions_BN: int64, ascending.
        features_BND: kept features before quantisation, from which the codebook learns.
        commitment: scalar loss of the quantiser.
        hidden_BCHW: detached input of the decoder's last convolution (for `MQVAE.last_layer_gradient`).
        logits_BL: the scores before the sigmoid, with their gradient, where they were asked for.
    """

    reconstruction_BCHW: Tensor
    scores_BL: Tensor
    kept_BL: Tensor
    codes_BN: Tensor
    positions_BN: Tensor
    features_BND: Tensor
    commitment: Tensor
    hidden_BCHW: Tensor
    logits_BL: Tensor | None = None


class MQVAE(nn.Module):
    """Masked quantisation VAE: an image → N codes and their positions, and back."""

    def __init__(self, config: MQVAEConfig) -> None:
        super().__init__()
        self.config = config
        sizes = (
            config.patch_size,
            config.channels,
            config.channel_multipliers,
            config.res_blocks,
            config.attention,
            config.code_dim,
        )
        self.encoder = Encoder(*sizes)
        self.masker = Masker(
            config.code_dim,
            config.num_kept,
            config.mask,
            config.scorer_width,
            config.scorer,
            config.mask_estimator,
        )
        self.quantizer = Quantizer(config.quantizer, config.num_codes, config.code_dim)
        self.mask_code_D = nn.Parameter(
            torch.empty(config.code_dim).uniform_(-1 / config.code_dim, 1 / config.code_dim)
        )
        self.demasker = Demasker(config.code_dim, config.demask_blocks, config.demask)
        self.decoder = Decoder(*sizes, refine=config.refine)

    def encode(self, image_BCHW: Tensor) -> Tensor:
        """Z = E(X): [B, 3, H, W] in [-1, 1] → [B, L, D]."""
        z_BLD: Tensor = rearrange(self.encoder(image_BCHW), "b d h w -> b (h w) d")
        return z_BLD

    def _ranking(self, image_BCHW: Tensor, ranking_BL: Tensor | None) -> Tensor | None:
        """The ranks of a fixed rule if the mask is one; else the caller's ranking."""
        if self.config.mask not in FIXED:
            return ranking_BL
        return fixed_ranking(self.config.mask, image_BCHW, self.config.grid)

    def decode(self, vectors_BND: Tensor, positions_BN: Tensor) -> Tensor:
        """Fill the grid, de-mask and decode: kept vectors and positions → image [B, 3, H, W], not clamped."""
        return self.decoder.last(self._decode_until_last(vectors_BND, positions_BN))

    def _decode_until_last(
        self, vectors_BND: Tensor, positions_BN: Tensor, relaxed: Relaxed | None = None
    ) -> Tensor:
        length, any_number = self.config.num_positions, self.config.kept == "any"
        filled = fill_slots if any_number else fill
        grid_BLD = filled(vectors_BND, positions_BN, self.mask_code_D, length)
        if relaxed is not None:
            grid_BLD = relaxed.through(grid_BLD, self.mask_code_D)
        shape = len(grid_BLD), length + any_number
        kept_BL = torch.zeros(shape, dtype=torch.bool, device=grid_BLD.device)
        kept_BL = kept_BL.scatter(1, positions_BN, True)[:, :length]
        grid_BDHW = rearrange(grid_BLD, "b (h w) d -> b d h w", h=self.config.grid)
        return self.decoder.until_last(self.demasker(grid_BDHW, kept_BL))

    def last_layer_gradient(self, hidden_BCHW: Tensor, gradient_BCHW: Tensor) -> Tensor:
        """Gradient of a loss with respect to the decoder's last weight, where VQGAN's adaptive weight compares two losses.

        Args:
            hidden_BCHW: the last convolution's input.
            gradient_BCHW: the loss's gradient at the image, which determines the dtype.
        """
        # pixels of a cell of the last convolution
        last_at = 1 if self.config.refine else self.config.patch_size
        at_output_BCHW = F.pixel_unshuffle(gradient_BCHW, last_at)
        shape = self.decoder.last_weight.shape
        hidden_BCHW = hidden_BCHW.to(gradient_BCHW.dtype)
        at_weight: Tensor = conv2d_weight(hidden_BCHW, list(shape), at_output_BCHW, padding=1)
        return at_weight

    def forward(
        self,
        image_BCHW: Tensor,
        ranking_BL: Tensor | None = None,
        exploration: float = 0.0,
        frozen_scores: bool = False,
        bypass_quantizer: bool = False,
        kept: int | Tensor | None = None,
        with_logits: bool = False,
    ) -> MQVAEOutput:
        """Reconstruct images [B, 3, H, W] in [-1, 1]; see `Masker.forward` for ranking, exploration, freezing and `kept`.

        With M numbers per image in `kept` all results have B · M rows, those of an image one after the other.
        Logits are in the output only `with_logits`: several workers wait for a gradient of all that is in it.
        """
        ranking_BL = self._ranking(image_BCHW, ranking_BL)
        masked = self.masker(self.encode(image_BCHW), ranking_BL, exploration, frozen_scores, kept)
        held_BN = masked.kept_BL if isinstance(kept, Tensor) else None
        quantized = self.quantizer(masked.features_BND, bypass_quantizer, held_BN)
        hidden_BCHW = self._decode_until_last(quantized.vectors_BND, masked.positions_BN, masked.relaxed)
        return MQVAEOutput(
            reconstruction_BCHW=self.decoder.last(hidden_BCHW),
            scores_BL=masked.scores_BL,
            kept_BL=masked.kept_BL,
            codes_BN=quantized.codes_BN,
            positions_BN=masked.positions_BN,
            features_BND=masked.features_BND,
            commitment=quantized.loss,
            hidden_BCHW=hidden_BCHW.detach(),
            logits_BL=masked.logits_BL if with_logits else None,
        )

    @torch.no_grad()
    def tokenize(
        self, image_BCHW: Tensor, ranking_BL: Tensor | None = None, kept: int | Tensor | None = None
    ) -> Tokens:
        """Images [B, 3, H, W] in [-1, 1] → codes and positions in raster order; see `Masker.forward` for `kept`.

        Raises:
            ValueError: other images than the model's (see `require_images`).
        """
        require_images(image_BCHW, self.config.image_size)
        ranking_BL = self._ranking(image_BCHW, ranking_BL)
        masked = self.masker(self.encode(image_BCHW), ranking_BL, kept=kept)
        return Tokens(self.quantizer(masked.features_BND).codes_BN, masked.positions_BN)

    @torch.no_grad()
    def tokenize_all(self, image_BCHW: Tensor, ranking_BL: Tensor | None = None) -> OrderedCells:
        """Images [B, 3, H, W] in [-1, 1] → the codes of all their cells, and the order in which they are kept."""
        require_images(image_BCHW, self.config.image_size)
        ranking_BL = self._ranking(image_BCHW, ranking_BL)
        masked = self.masker(self.encode(image_BCHW), ranking_BL, kept=self.config.num_positions)
        order_BL = masked.ranks_BL.argsort(dim=-1, descending=True, stable=True)
        return OrderedCells(self.quantizer(masked.features_BND).codes_BN, order_BL)

    @torch.no_grad()
    def decode_tokens(self, codes_BN: Tensor, positions_BN: Tensor) -> Tensor:
        """Codes and positions [B, N], in any order → images [B, 3, H, W], not clamped.

        A model trained for any number of cells also accepts empty slots, at position L.

        Raises:
            ValueError: a code not in 0 … K-1, a position not in 0 … L-1, or one twice in a row.
        """
        empty = self.config.kept == "any"
        sizes = self.config.num_codes, self.config.num_positions
        codes_BN, positions_BN = as_tokens(codes_BN, positions_BN, *sizes, empty)
        return self.decode(self.quantizer.lookup(codes_BN), positions_BN)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write model.safetensors and config.json."""
        save_pretrained(self, self.config, folder)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """Load a folder written by `save_pretrained`, in eval mode, on the CPU; ValueError if its files do not fit together."""
        return load_pretrained(cls, MQVAEConfig, folder)
