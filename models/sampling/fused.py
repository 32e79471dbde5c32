"""A `gpt` transformer decoded on a GPU by kernels.py: five or six launches per block, one captured graph for all steps.

The unfused version (decoding.py) attends up to the next bucket under a mask and needs a graph per bucket; here attention reads
the current place from the device and stops there. Products stay in fp32 where the unfused version rounds between two operations,
so the logits are nearer to those of fp32 weights, and not bit-identical to the unfused ones.

Shapes: R rows, M tokens of each, D width.
"""

from typing import cast

import torch
from torch import Tensor

from models.sampling.decoding import DecodingBlock, DecodingTransformer
from models.sampling.kernels import FusedLinear, attend, starts_early
from models.stackformer.transformer import Block, ModernTransformer, Transformer

AMPERE = (8, 0)
"""First compute capability whose matrix units multiply bf16."""
SMALLEST_HEAD = 16
"""Fewest features per head, a power of two, for which tiles are efficient."""


def fuses(transformer: Transformer | ModernTransformer, kept_as: torch.dtype | None) -> bool:
    """Whether a transformer can be fused: `gpt` blocks in bf16 or fp16, keys and values likewise, on NVIDIA GPUs whose matrix
    units support bf16."""
    weight = next(transformer.parameters())
    head = transformer.width // transformer.heads
    return (
        isinstance(transformer, Transformer)
        and weight.device.type == "cuda"
        and torch.version.cuda is not None
        and torch.cuda.get_device_capability(weight.device) >= AMPERE
        and weight.dtype in (torch.bfloat16, torch.float16)
        and kept_as in (None, weight.dtype)
        and head >= SMALLEST_HEAD
        and head & (head - 1) == 0
    )


class FusedBlock:
    """A block's four maps, fused with the operations before and after them, on the cache of a `DecodingBlock`."""

    def __init__(self, block: Block, plain: DecodingBlock) -> None:
        self.cache = plain.cache
        self.to_qkv = FusedLinear(block.attention.to_qkv, block.attention_norm)
        self.to_out = FusedLinear(block.attention.to_out)
        self.widen, self.narrow = (
            FusedLinear(block.widen, block.mlp_norm, gelu=True),
            FusedLinear(block.narrow),
        )

    def __call__(self, x_RD: Tensor, time_1: Tensor) -> Tensor:
        """The block's output for one token per row."""
        early = starts_early()
        heard_RD = attend(self.to_qkv(x_RD), self.cache.k_RHTE, self.cache.v_RHTE, time_1, early)
        x_RD = self.to_out(heard_RD, x_RD)
        return self.narrow(self.widen(x_RD), x_RD)


class FusedTransformer(DecodingTransformer):
    """A fused `DecodingTransformer`, with the same arguments; several tokens at once (a condition) run unfused, on the same
    cache."""

    def __init__(
        self, transformer: Transformer, rows: int, length: int, kept_as: torch.dtype | None = None
    ) -> None:
        super().__init__(transformer, rows, length, kept_as)
        self.fused = [
            FusedBlock(cast(Block, block), plain)
            for block, plain in zip(transformer.blocks, self.blocks, strict=True)
        ]

    def __call__(
        self, u_RMD: Tensor, place_RM: Tensor, time_M: Tensor, reach: int, mask_S: Tensor | None = None
    ) -> Tensor:
        """See `DecodingTransformer`; for one token `reach` and `mask_S` are ignored."""
        if u_RMD.shape[1] > 1:
            return super().__call__(u_RMD, place_RM, time_M, reach, mask_S)
        x_RD = u_RMD[:, 0].contiguous()
        for block in self.fused:
            x_RD = block(x_RD, time_M)
        h_RD: Tensor = cast(Transformer, self.transformer).norm(x_RD)
        return h_RD[:, None]
