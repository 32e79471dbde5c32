"""A trained transformer prepared for decoding: one token per sequence and step, with cached keys and values.

A step reads every weight once for a few rows, so its lower bound is bytes over bandwidth, and the weights' memory layout decides.
On CPUs each linear map is packed once for oneDNN, which then streams it 2-3 times faster than `F.linear` for few rows, and
fuses GELU or the residual sum. On other devices, and in float64, the plain maps are used.

On CPUs attention of a single query runs in fp32, because the fused kernel is several times slower there in bf16.

Shapes: R sequences, M tokens of each per call, at most T tokens, S of them read by attention, D width, H heads, E = D / H,
I and O widths before and after a linear map.
"""

import importlib.util
import math
from collections.abc import Callable, Iterable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.stackformer.transformer import Block, ModernBlock, ModernTransformer, Transformer, Turns, rms_norm


def packs(weight: Tensor) -> bool:
    """Whether oneDNN packs this weight: on supported CPUs, in fp32, and in bf16 if the CPU computes in bf16."""
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if weight.dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return weight.dtype == torch.float32


class Projection:
    """x Wᵀ + b for few rows, with the weight repacked once.

    Args:
        linear: the map; packing copies its weight.
        rows: the expected number of rows, for the layout (any number works).
    """

    def __init__(self, linear: nn.Linear, rows: int) -> None:
        self.weight_OI = linear.weight.detach()
        self.bias_O = None if linear.bias is None else linear.bias.detach()
        self.packed = packs(self.weight_OI)
        if self.packed:
            self.weight_OI = torch.ops.mkldnn._reorder_linear_weight(self.weight_OI, rows)

    def __call__(self, x_RI: Tensor) -> Tensor:
        """[…, I] → […, O]."""
        return self._apply(x_RI, "none") if self.packed else F.linear(x_RI, self.weight_OI, self.bias_O)

    def gelu(self, x_RI: Tensor) -> Tensor:
        """GELU(x Wᵀ + b)."""
        if self.packed:
            return self._apply(x_RI, "gelu")
        return F.gelu(F.linear(x_RI, self.weight_OI, self.bias_O))

    def relu_squared(self, x_RI: Tensor) -> Tensor:
        """ReLU(x Wᵀ + b)²."""
        positive_RO = (
            self._apply(x_RI, "relu") if self.packed else F.relu(F.linear(x_RI, self.weight_OI, self.bias_O))
        )
        return positive_RO.square()

    def added_to(self, sum_RO: Tensor, x_RI: Tensor) -> Tensor:
        """sum_RO + x Wᵀ + b."""
        if not self.packed:
            return sum_RO + F.linear(x_RI, self.weight_OI, self.bias_O)
        added_RO: Tensor = torch.ops.mkldnn._linear_pointwise.binary(
            x_RI, sum_RO, self.weight_OI, self.bias_O, "add"
        )
        return added_RO

    def _apply(self, x_RI: Tensor, then: str) -> Tensor:
        y_RO: Tensor = torch.ops.mkldnn._linear_pointwise(x_RI, self.weight_OI, self.bias_O, then, [], "none")
        return y_RO


class Cache:
    """The key-value cache of one block.

    Args:
        weight: a weight whose device and dtype they share.
        rows, heads, length: R, H, T.
        kept_as: their dtype; None is at least fp32 on CPUs, and the weight's dtype elsewhere.
    """

    def __init__(
        self, weight: Tensor, rows: int, heads: int, length: int, kept_as: torch.dtype | None
    ) -> None:
        if kept_as is None:
            on_cpu = weight.device.type == "cpu"
            kept_as = torch.promote_types(weight.dtype, torch.float32) if on_cpu else weight.dtype
        shape = (rows, heads, length, weight.shape[1] // heads)
        self._all = tuple(torch.zeros(shape, dtype=kept_as, device=weight.device) for _ in "kv")
        self.k_RHTE, self.v_RHTE = self._all

    def keep(self, rows_R: Tensor | None) -> None:
        """Keep some of the sequences, in this order; None brings all of them back."""
        if rows_R is None:
            self.k_RHTE, self.v_RHTE = self._all
            return
        for whole_RHTE in (self.k_RHTE, self.v_RHTE):
            whole_RHTE[: len(rows_R)] = whole_RHTE.index_select(0, rows_R)
        self.k_RHTE, self.v_RHTE = self.k_RHTE[: len(rows_R)], self.v_RHTE[: len(rows_R)]

    def attend(
        self,
        q_RHME: Tensor,
        k_RHME: Tensor,
        v_RHME: Tensor,
        time_M: Tensor,
        reach: int,
        mask_S: Tensor | None,
    ) -> Tensor:
        """Store the keys and values of `time_M` and attend to all stored ones: [R, M, D]."""
        dtype = self.k_RHTE.dtype
        self.k_RHTE.index_copy_(2, time_M, k_RHME.to(dtype))
        self.v_RHTE.index_copy_(2, time_M, v_RHME.to(dtype))
        k_RHSE, v_RHSE = self.k_RHTE[:, :, :reach], self.v_RHTE[:, :, :reach]
        heard_RHME = F.scaled_dot_product_attention(
            q_RHME.to(dtype), k_RHSE, v_RHSE, attn_mask=mask_S, is_causal=mask_S is None and len(time_M) > 1
        )
        return heard_RHME.transpose(1, 2).flatten(2)


class DecodingBlock:
    """A transformer's `Block` in eval mode, with a key-value cache.

    Args:
        block: the block with the weights.
        rows: R.
        length: T.
        kept_as: dtype of keys and values; None: the weights' dtype, but at least fp32 on CPUs.
    """

    def __init__(self, block: Block, rows: int, length: int, kept_as: torch.dtype | None = None) -> None:
        attention = block.attention
        self.heads = attention.heads
        self.attention_norm, self.mlp_norm = block.attention_norm, block.mlp_norm
        self.to_qkv, self.to_out = Projection(attention.to_qkv, rows), Projection(attention.to_out, rows)
        self.widen, self.narrow = Projection(block.widen, rows), Projection(block.narrow, rows)
        weight = attention.to_qkv.weight
        self.cache = Cache(weight, rows, self.heads, length, kept_as)

    def __call__(self, x_RMD: Tensor, time_M: Tensor, reach: int, mask_S: Tensor | None) -> Tensor:
        """See `Transformer.step`."""
        rows, tokens, _ = x_RMD.shape
        qkv_RM3HE = self.to_qkv(self.attention_norm(x_RMD)).view(rows, tokens, 3, self.heads, -1)
        q_RHME, k_RHME, v_RHME = qkv_RM3HE.permute(2, 0, 3, 1, 4)
        heard_RMD = self.cache.attend(q_RHME, k_RHME, v_RHME, time_M, reach, mask_S)
        x_RMD = self.to_out.added_to(x_RMD, heard_RMD.to(x_RMD.dtype))
        return self.narrow.added_to(x_RMD, self.widen.gelu(self.mlp_norm(x_RMD)))


class DecodingModernBlock:
    """A `ModernBlock` in eval mode, with a key-value cache; arguments as in `DecodingBlock`."""

    def __init__(
        self, block: ModernBlock, rows: int, length: int, kept_as: torch.dtype | None = None
    ) -> None:
        self.block = block
        self.to_qkv, self.to_out = Projection(block.to_qkv, rows), Projection(block.to_out, rows)
        self.widen, self.narrow = Projection(block.widen, rows), Projection(block.narrow, rows)
        weight = block.to_qkv.weight
        self.cache = Cache(weight, rows, block.heads, length, kept_as)

    def __call__(
        self,
        x_RMD: Tensor,
        turns: Turns,
        first_v_RHME: Tensor | None,
        time_M: Tensor,
        reach: int,
        mask_S: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """The block's output [R, M, D] and its values."""
        q_RHME, k_RHME, v_RHME = self.block.split(self.to_qkv(rms_norm(x_RMD)), turns, first_v_RHME)
        heard_RMD = self.cache.attend(q_RHME, k_RHME, v_RHME, time_M, reach, mask_S)
        x_RMD = self.to_out.added_to(x_RMD, heard_RMD.to(x_RMD.dtype))
        return self.narrow.added_to(x_RMD, self.widen.relu_squared(rms_norm(x_RMD))), v_RHME


class DecodingTransformer:
    """A transformer in eval mode that reads its sequences one token per step.

    Args:
        transformer: the transformer with the weights; later changes to them have no effect.
        rows: R.
        length: T.
        kept_as: as in `DecodingBlock`.
    """

    def __init__(
        self,
        transformer: Transformer | ModernTransformer,
        rows: int,
        length: int,
        kept_as: torch.dtype | None = None,
    ) -> None:
        self.transformer = transformer
        if isinstance(transformer, Transformer):
            self.blocks = [
                DecodingBlock(cast(Block, block), rows, length, kept_as) for block in transformer.blocks
            ]
            self.kept_as = self.blocks[0].cache.k_RHTE.dtype
        else:
            self.modern = [
                DecodingModernBlock(cast(ModernBlock, block), rows, length, kept_as)
                for block in transformer.blocks
            ]
            self.kept_as = self.modern[0].cache.k_RHTE.dtype

    def __call__(
        self, u_RMD: Tensor, place_RM: Tensor, time_M: Tensor, reach: int, mask_S: Tensor | None = None
    ) -> Tensor:
        """H = Transformer(U) of the tokens at `time_M`, after all earlier ones were given: [R, M, D].

        Args:
            u_RMD: one token per sequence, or the first M > 1 of each, or with a mask any M.
            place_RM: int64 in 0 … L, the tokens' cells (L for <sos>).
            time_M: int64, the tokens' places in the sequence.
            reach: S, the number of places that attention reads: up to the last of `time_M`, or farther with a mask.
            mask_S: bool, which of those places are attended to, [S], or [M, S] where tokens differ; None means all.
        """
        # once per step, because each block's attention would convert a bool mask itself
        if mask_S is not None:
            zeros_S = torch.zeros(reach, dtype=self.kept_as, device=u_RMD.device)
            mask_S = zeros_S.masked_fill(~mask_S, -math.inf)
        if isinstance(self.transformer, Transformer):
            for block in self.blocks:
                u_RMD = block(u_RMD, time_M, reach, mask_S)
            h_RMD: Tensor = self.transformer.norm(u_RMD)
            return h_RMD
        turns, x_RMD, first_v_RHME = self.transformer.turns(place_RM), rms_norm(u_RMD), None
        for modern in self.modern:
            x_RMD, v_RHME = modern(x_RMD, turns, first_v_RHME, time_M, reach, mask_S)
            first_v_RHME = v_RHME if first_v_RHME is None else first_v_RHME
        return rms_norm(x_RMD)

    def keep(self, rows_R: Tensor | None) -> None:
        """See `Cache.keep`."""
        for block in self.blocks if isinstance(self.transformer, Transformer) else self.modern:
            block.cache.keep(rows_R)


def decoding_transformer(
    transformer: Transformer | ModernTransformer,
    rows: int,
    length: int,
    kept_as: torch.dtype | None,
    fused: bool,
) -> DecodingTransformer:
    """A decoding transformer, fused if requested; arguments as in `DecodingTransformer`."""
    if not fused:
        return DecodingTransformer(transformer, rows, length, kept_as)
    from models.sampling.fused import FusedTransformer  # Triton is installed only with torch's GPU builds

    assert isinstance(transformer, Transformer)
    return FusedTransformer(transformer, rows, length, kept_as)


def can_fuse(transformers: Iterable[Transformer | ModernTransformer], kept_as: torch.dtype | None) -> bool:
    """Whether all of them can be fused on this device."""
    if importlib.util.find_spec("triton") is None:
        return False
    from models.sampling.fused import fuses

    return all(fuses(transformer, kept_as) for transformer in transformers)


def head(linear: nn.Linear, rows: int, fused: bool) -> Callable[[Tensor], Tensor]:
    """A function from R rows to logits."""
    if not fused:
        return Projection(linear, rows)
    from models.sampling.kernels import FusedLinear

    return FusedLinear(linear)
