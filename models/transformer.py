"""The causal transformer that Stackformer stacks twice: pre-LN GPT blocks on whole sequences (decoding.py: a token a step).

Shapes: B sequences, M tokens, D width, H heads, E = D / H.
"""

import math

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


class CausalAttention(nn.Module):
    """Multi-head self-attention in which a token hears itself and those before it."""

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


class Transformer(nn.Module):
    """A stack of blocks and a final norm; linear maps start as in GPT-2."""

    def __init__(self, width: int, heads: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.width, self.heads = width, heads
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                adds = name.endswith(("to_out.weight", "narrow.weight"))
                nn.init.normal_(weight, std=0.02 / math.sqrt(2 * layers) if adds else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(weight)

    def forward(self, u_BMD: Tensor) -> Tensor:
        """H = Transformer(U), [B, M, D]."""
        for block in self.blocks:
            u_BMD = block(u_BMD)
        h_BMD: Tensor = self.norm(u_BMD)
        return h_BMD
