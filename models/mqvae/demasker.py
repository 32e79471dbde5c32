"""The adaptive de-mask module (paper section 3.2, Eq. 5-8): infers masked cells from the kept ones.

    q, k, v = W_q z, W_k z, W_v z                    (5)
    A = softmax(q kᵀ / √n_e) ⊙ B_h                   (6)   one factor per key
    z ← A v                                          (7)
    B_{h+1} = √B_h                                   (8)   1 where kept, 0.02 at first where masked

Shapes: B images, L cells, D features, H and W of the grid (L = H · W).
"""

from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from models.mqvae.autoencoder import ResBlock, group_norm

DemaskKind = Literal["none", "sa", "dcsa", "dcsa_update", "dcsa_renormalised"]
TRUST_IN_MASKED = 0.02


class DirectionConstrainedAttention(nn.Module):
    """Direction-constrained attention: cells are weighted by how well they are known (Eq. 5-7); GroupNorm before, residual after.

    The paper multiplies the softmax by B after normalising, one factor per key. That equals scaling the values:
    (softmax(q kᵀ/√d) ⊙ B) v = softmax(q kᵀ/√d)(B ⊙ v), so no L × L matrix is built and flash kernels apply.
    The projection after it is initialised to zero, so that a new block is the identity.

    Args:
        dim: D.
        renormalised: divide each row of A by its sum (not in the paper), which equals the softmax of the scores + log B.
    """

    def __init__(self, dim: int, renormalised: bool = False) -> None:
        super().__init__()
        self.renormalised = renormalised
        self.norm = group_norm(dim)
        self.to_qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.to_out = nn.Linear(dim, dim)
        nn.init.zeros_(self.to_out.weight)
        nn.init.zeros_(self.to_out.bias)

    def attend(self, z_BLD: Tensor, trust_BL: Tensor) -> Tensor:
        """Only Eq. 5-7: normalised features → A v, [B, L, D]."""
        q_BLD, k_BLD, v_BLD = self.to_qkv(z_BLD).chunk(3, dim=-1)  # (5)
        if self.renormalised:
            # softmax(s + log B) is B ⊙ softmax(s) with each row divided by its sum, again without building an L × L matrix
            bias_B11L = trust_BL.log()[:, None, None].to(q_BLD.dtype)
            q_B1LD, k_B1LD, v_B1LD = q_BLD[:, None], k_BLD[:, None], v_BLD[:, None]
            return F.scaled_dot_product_attention(q_B1LD, k_B1LD, v_B1LD, attn_mask=bias_B11L)[:, 0]
        heard_BLD = trust_BL[..., None].to(v_BLD.dtype) * v_BLD
        # (6), (7)
        return F.scaled_dot_product_attention(q_BLD[:, None], k_BLD[:, None], heard_BLD[:, None])[:, 0]

    def forward(self, z_BDHW: Tensor, trust_BL: Tensor) -> Tensor:
        """Grid [B, D, H, W] and trust per cell, [B, L] in (0, 1] → grid."""
        height = z_BDHW.shape[2]
        z_BLD = rearrange(self.norm(z_BDHW), "b d h w -> b (h w) d")
        out_BLD = self.to_out(self.attend(z_BLD, trust_BL))
        out_BDHW: Tensor = rearrange(out_BLD, "b (h w) d -> b d h w", h=height)
        return z_BDHW + out_BDHW


class Demasker(nn.Module):
    """H sub-modules of ResBlock → direction-constrained attention, then a last ResBlock.

    Args:
        dim: D.
        blocks: H, the number of sub-modules.
        kind: `dcsa_update` is the paper's; `dcsa` never updates B; `sa` is plain self-attention (B = 1); `none` returns the
            filled grid unchanged. `dcsa_renormalised` (not in the paper) is `dcsa_update` with rows of A that sum to 1.
    """

    def __init__(self, dim: int, blocks: int, kind: DemaskKind) -> None:
        super().__init__()
        self.kind = kind
        count = 0 if kind == "none" else blocks
        self.res_blocks = nn.ModuleList(ResBlock(dim, dim) for _ in range(count))
        renormalised = kind == "dcsa_renormalised"
        self.attentions = nn.ModuleList(
            DirectionConstrainedAttention(dim, renormalised) for _ in range(count)
        )
        self.last = nn.Identity() if kind == "none" else ResBlock(dim, dim)

    def initial_trust(self, kept_BL: Tensor, dtype: torch.dtype) -> Tensor:
        """B_1: 1 at kept cells, 0.02 at masked ones (1 everywhere for plain self-attention)."""
        one = torch.ones((), dtype=dtype, device=kept_BL.device)
        return torch.where(kept_BL, one, one if self.kind == "sa" else TRUST_IN_MASKED * one)

    def forward(self, z_BDHW: Tensor, kept_BL: Tensor) -> Tensor:
        """Filled grid [B, D, H, W] and the kept cells, bool [B, L] → the recovered grid."""
        trust_BL = self.initial_trust(kept_BL, z_BDHW.dtype)
        for res_block, attention in zip(self.res_blocks, self.attentions, strict=True):
            z_BDHW = attention(res_block(z_BDHW), trust_BL)
            if self.kind in ("dcsa_update", "dcsa_renormalised"):
                trust_BL = trust_BL.sqrt()  # (8)
        out: Tensor = self.last(z_BDHW)
        return out
