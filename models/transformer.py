"""The causal transformer that Stackformer stacks twice: pre-LN GPT blocks, on sequences or one token a step.

Shapes: B sequences, T tokens at most, M of them, D width, H heads, E = D / H.
"""

import math

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


class KeyValueCache:
    """Keys and values of one attention so far, in memory that is reserved once.

    Args:
        shape: [B, H, T, E] of keys and of values.
        like: a tensor of their dtype and device.
    """

    def __init__(self, shape: tuple[int, int, int, int], like: Tensor) -> None:
        self.length = 0
        self._k_BHTE, self._v_BHTE = like.new_zeros(shape), like.new_zeros(shape)

    def append(self, k_BHME: Tensor, v_BHME: Tensor) -> tuple[Tensor, Tensor]:
        """Add M tokens; returns keys and values of all tokens so far (views)."""
        end = self.length + k_BHME.shape[2]
        self._k_BHTE[:, :, self.length : end] = k_BHME
        self._v_BHTE[:, :, self.length : end] = v_BHME
        self.length = end
        return self._k_BHTE[:, :, :end], self._v_BHTE[:, :, :end]


class CausalAttention(nn.Module):
    """Multi-head self-attention in which a token hears itself and those before it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Linear(width, 3 * width)
        self.to_out = nn.Linear(width, width)

    def forward(self, x_BMD: Tensor, cache: KeyValueCache | None = None) -> Tensor:
        """Whole sequences; with a cache, its next token (or its first ones: M > 1 needs an empty cache)."""
        q_BHME, k_BHTE, v_BHTE = rearrange(
            self.to_qkv(x_BMD), "b m (three h e) -> three b h m e", three=3, h=self.heads
        )
        if cache is not None:
            assert cache.length == 0 or x_BMD.shape[1] == 1
            k_BHTE, v_BHTE = cache.append(k_BHTE, v_BHTE)
        heard_BHME = F.scaled_dot_product_attention(q_BHME, k_BHTE, v_BHTE, is_causal=x_BMD.shape[1] > 1)
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

    def forward(self, x_BMD: Tensor, cache: KeyValueCache | None = None) -> Tensor:
        """[B, M, D] → [B, M, D]."""
        x_BMD = x_BMD + self.dropout(self.attention(self.attention_norm(x_BMD), cache))
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

    def forward(self, u_BMD: Tensor, caches: list[KeyValueCache] | None = None) -> Tensor:
        """H = Transformer(U), [B, M, D]; one cache a block where tokens come one by one."""
        for index, block in enumerate(self.blocks):
            u_BMD = block(u_BMD, None if caches is None else caches[index])
        h_BMD: Tensor = self.norm(u_BMD)
        return h_BMD

    def new_caches(self, batch: int, length: int) -> list[KeyValueCache]:
        """Empty caches for `batch` sequences of at most `length` tokens."""
        shape = (batch, self.heads, length, self.width // self.heads)
        return [KeyValueCache(shape, self.norm.weight) for _ in self.blocks]
