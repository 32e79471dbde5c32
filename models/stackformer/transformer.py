"""The causal transformers of a Stackformer, on whole sequences (decoding.py: one token per step).

Two kinds of block. `gpt` is the paper's: pre-LN, GELU. `modern` combines later findings that learn faster: RMSNorm without
weights, QK-norm, two-dimensional rotary embeddings, values mixed with those of the first block (value residual learning, Zhou
et al. 2024), squared ReLU, no biases, every block initialised to the identity. A token's place is the cell of its code, so
attention depends on the distance of two cells on the grid, not on the number of tokens between them.

Shapes: B sequences, M tokens, D width, H heads, E = D / H, P = E / 2 rotated pairs of features, L cells.
"""

import math
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

BlockKind = Literal["gpt", "modern"]
LONGEST_TURN = 100.0
"""Ratio of the slowest rotary frequency to the fastest; grids have at most about 64 cells per side."""


class Turns(NamedTuple):
    """Cosine and sine of rotary angles, [..., P] each; [B, 1, M, P] for tokens."""

    cos: Tensor
    sin: Tensor


def place_turns(num_positions: int, pairs: int) -> Turns:
    """Cosine and sine of each pair's angle at each cell, float32 [L + 1, P]; the last row is <sos>, above and left of the grid.

    Half of the pairs rotate with the row, half with the column (axial rotary embedding, Heo et al. 2024). If L is not a square
    number, cells count as a line.
    """
    side = math.isqrt(num_positions)
    width = side if side * side == num_positions else num_positions
    cell_L = torch.arange(num_positions)
    place_L2 = torch.stack([cell_L // width, cell_L % width], dim=1)
    place_L2 = torch.cat([place_L2, torch.full((1, 2), -1)]).double()
    half = pairs // 2
    frequency_P = LONGEST_TURN ** -(torch.arange(half, dtype=torch.float64) / half)
    angle_LP = (place_L2[:, :, None] * frequency_P).flatten(1)
    return Turns(angle_LP.cos().float(), angle_LP.sin().float())


def turned(x_BHME: Tensor, turns: Turns) -> Tensor:
    """Rotate each pair (e, e + P) of a head by its token's angle."""
    first_BHMP, second_BHMP = x_BHME.chunk(2, dim=-1)
    cos, sin = turns
    return torch.cat([first_BHMP * cos - second_BHMP * sin, first_BHMP * sin + second_BHMP * cos], dim=-1)


def rms_norm(x_BMD: Tensor) -> Tensor:
    """x / root mean square of x, over the last dimension."""
    return F.rms_norm(x_BMD, (x_BMD.shape[-1],))


class CausalAttention(nn.Module):
    """Causal multi-head self-attention: a token attends to itself and to earlier tokens."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Linear(width, 3 * width)
        self.to_out = nn.Linear(width, width)

    def forward(self, x_BMD: Tensor) -> Tensor:
        """[B, M, D] → [B, M, D]."""
        q_BHME, k_BHME, v_BHME = rearrange(
            self.to_qkv(x_BMD), "b m (three h e) -> three b h m e", three=3, h=self.heads
        )
        heard_BHME = F.scaled_dot_product_attention(q_BHME, k_BHME, v_BHME, is_causal=True)
        out_BMD: Tensor = self.to_out(rearrange(heard_BHME, "b h m e -> b m (h e)"))
        return out_BMD


class Block(nn.Module):
    """A pre-LN GPT block: attention, then a GELU MLP of four times the width."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm, self.attention = nn.LayerNorm(width), CausalAttention(width, heads)
        self.mlp_norm = nn.LayerNorm(width)
        self.widen, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BMD: Tensor) -> Tensor:
        """[B, M, D] → [B, M, D]."""
        x_BMD = x_BMD + self.dropout(self.attention(self.attention_norm(x_BMD)))
        added_BMD: Tensor = self.dropout(self.narrow(F.gelu(self.widen(self.mlp_norm(x_BMD)))))
        return x_BMD + added_BMD


class ModernBlock(nn.Module):
    """A `modern` block, see the module docstring; `mix_2` weights its own values and the first block's."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.to_qkv, self.to_out = (
            nn.Linear(width, 3 * width, bias=False),
            nn.Linear(width, width, bias=False),
        )
        self.widen = nn.Linear(width, 4 * width, bias=False)
        self.narrow = nn.Linear(4 * width, width, bias=False)
        self.mix_2 = nn.Parameter(torch.tensor([1.0, 0.0]))
        self.dropout = nn.Dropout(dropout)

    def split(
        self, qkv_BM3D: Tensor, turns: Turns, first_v_BHME: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Projected tokens [B, M, 3 D] → normalised and rotated queries and keys, mixed values, [B, H, M, E] each."""
        q_BHME, k_BHME, v_BHME = rearrange(
            qkv_BM3D, "b m (three h e) -> three b h m e", three=3, h=self.heads
        )
        if first_v_BHME is not None:
            v_BHME = self.mix_2[0] * v_BHME + self.mix_2[1] * first_v_BHME
        return turned(rms_norm(q_BHME), turns), turned(rms_norm(k_BHME), turns), v_BHME

    def forward(self, x_BMD: Tensor, turns: Turns, first_v_BHME: Tensor | None) -> tuple[Tensor, Tensor]:
        """[B, M, D] → the same shape, and the block's values."""
        q_BHME, k_BHME, v_BHME = self.split(self.to_qkv(rms_norm(x_BMD)), turns, first_v_BHME)
        heard_BHME = F.scaled_dot_product_attention(q_BHME, k_BHME, v_BHME, is_causal=True)
        x_BMD = x_BMD + self.dropout(self.to_out(rearrange(heard_BHME, "b h m e -> b m (h e)")))
        added_BMD = self.dropout(self.narrow(F.relu(self.widen(rms_norm(x_BMD))).square()))
        return x_BMD + added_BMD, v_BHME


class _Stack(nn.Module):
    """What both kinds of transformers share: whether the backward pass computes a block's activations again (`checkpointing`)."""

    checkpointing: bool

    def _run(self, block: nn.Module, *inputs: Any) -> Any:
        """One block; only its inputs are kept for the backward pass where `checkpointing` is true."""
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(block, *inputs, use_reentrant=False)
        return block(*inputs)


class Transformer(_Stack):
    """A stack of `gpt` blocks and a final norm; linear maps are initialised as in GPT-2."""

    def __init__(self, width: int, heads: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.width, self.heads, self.checkpointing = width, heads, False
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                adds = name.endswith(("to_out.weight", "narrow.weight"))
                nn.init.normal_(weight, std=0.02 / math.sqrt(2 * layers) if adds else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(weight)

    def forward(self, u_BMD: Tensor, place_BM: Tensor) -> Tensor:
        """H = Transformer(U), [B, M, D]; positions are part of U, so `place_BM` is not used."""
        for block in self.blocks:
            u_BMD = self._run(block, u_BMD)
        h_BMD: Tensor = self.norm(u_BMD)
        return h_BMD


class ModernTransformer(_Stack):
    """A stack of `modern` blocks and a final norm.

    Args:
        num_positions: L.
    """

    cos_LP: Tensor
    sin_LP: Tensor

    def __init__(self, width: int, heads: int, layers: int, dropout: float, num_positions: int) -> None:
        super().__init__()
        self.width, self.heads, self.checkpointing = width, heads, False
        self.blocks = nn.ModuleList(ModernBlock(width, heads, dropout) for _ in range(layers))
        turns = place_turns(num_positions, width // heads // 2)
        # in the weights' dtype, like the features they rotate
        self.register_buffer("cos_LP", turns.cos, persistent=False)
        self.register_buffer("sin_LP", turns.sin, persistent=False)
        for name, weight in self.named_parameters():
            if name.endswith(("to_out.weight", "narrow.weight")):
                nn.init.zeros_(weight)
            elif weight.ndim == 2:
                nn.init.normal_(weight, std=0.5 / math.sqrt(width))

    def turns(self, place_BM: Tensor) -> Turns:
        """Rotary angles of tokens at these cells, int64 in 0 … L (L is <sos>)."""
        return Turns(self.cos_LP[place_BM][:, None], self.sin_LP[place_BM][:, None])

    def forward(self, u_BMD: Tensor, place_BM: Tensor) -> Tensor:
        """H = Transformer(U), [B, M, D], the tokens at cells `place_BM`, int64 in 0 … L (L for <sos>)."""
        turns, x_BMD, first_v_BHME = self.turns(place_BM), rms_norm(u_BMD), None
        for block in self.blocks:
            x_BMD, v_BHME = self._run(block, x_BMD, turns, first_v_BHME)
            first_v_BHME = v_BHME if first_v_BHME is None else first_v_BHME
        return rms_norm(x_BMD)


def transformer(
    kind: BlockKind, width: int, heads: int, layers: int, dropout: float, num_positions: int
) -> Transformer | ModernTransformer:
    """A transformer with this kind of block."""
    if kind == "gpt":
        return Transformer(width, heads, layers, dropout)
    return ModernTransformer(width, heads, layers, dropout, num_positions)
