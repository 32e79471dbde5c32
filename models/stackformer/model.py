"""Stackformer (paper section 3.3): a Code-Transformer, and a Position-Transformer stacked on it.

    p(M, P) = Π_n p(M_n | M_<n, P_<n) p(P_n | M_≤n, P_<n)     (9)
    U_c = e_c(M) + e_p(P) (+ a learned absolute embedding)   (10)
    L_code = E[-log p(M_n | M_<n, P_<n)]                     (11)
    U_p = H_c[N_c-1 : N_c+N-1] + e_c(M[N_c : N_c+N])         (12)  0-based and half open here
    L_position = E[-log p(P_n | M_≤n, P_<n)]                 (13)
    L = L_code + L_position                                  (14)

A sequence is N_c conditions, each at the position <sos>, then the N kept codes in raster order. The last code and its position
predict nothing and are not fed, so the Code-Transformer reads T = N_c + N - 1 tokens.

Shapes: B images, C = N_c conditions, N kept codes, T tokens read, M tokens of a part, K codes, L positions,
D width.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.base.pretrained import load_pretrained, save_pretrained
from models.stackformer.transformer import BlockKind, ModernTransformer, Transformer, transformer

PositionSupport = Literal["ascending", "unused"]
Condition = Literal["none", "class", "text"]


@dataclass(frozen=True)
class NetworkConfig:
    """The free choices in a Stackformer's architecture.

    Attributes:
        width: D, features of a token, a multiple of `heads` (≥ 1).
        heads: attention heads; divides `width` (≥ 1).
        code_layers: blocks of the Code-Transformer (≥ 1).
        position_layers: blocks of the Position-Transformer; 0 builds none, if every position is kept (≥ 0).
        dropout: dropout of the embedded input and of each block's residual (≥ 0, < 1).
        position_support: ascending (exact, because positions ascend) or unused (literally Algorithm 1).
        block: gpt (the paper's) or modern (see models/stackformer/transformer.py).
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    width: int
    heads: int
    code_layers: int
    position_layers: int
    dropout: float
    position_support: PositionSupport
    block: BlockKind = "gpt"

    def __post_init__(self) -> None:
        for name in ("width", "heads", "code_layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected ≥ 1")
        if self.position_layers < 0:
            raise ValueError(f"position_layers is {self.position_layers}, expected ≥ 0")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        if self.block == "modern" and self.width // self.heads % 4:
            raise ValueError(
                f"width {self.width} / heads {self.heads} = {self.width // self.heads}; block modern turns pairs of "
                "features by row and by column: expected a multiple of 4"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}, expected 0 ≤ dropout < 1")


@dataclass(frozen=True)
class StackformerConfig:
    """A Stackformer's architecture; everything except `network` follows from its tokens.

    Attributes:
        network: the free choices.
        num_codes: K.
        num_positions: L.
        num_kept: N.
        condition: none (one <sos>), class (one class code) or text (N_c text codes).
        condition_length: N_c.
        condition_vocab: number of condition codes, without the null code; 1 (<sos>) for none.
    """

    network: NetworkConfig
    num_codes: int
    num_positions: int
    num_kept: int
    condition: Condition
    condition_length: int
    condition_vocab: int

    def __post_init__(self) -> None:
        for name in ("num_codes", "num_positions", "num_kept", "condition_length", "condition_vocab"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected ≥ 1")
        if self.num_kept > self.num_positions:
            raise ValueError(
                f"num_kept is {self.num_kept}, expected at most num_positions {self.num_positions}"
            )
        if not self.network.position_layers and self.num_kept < self.num_positions:
            raise ValueError(
                f"position_layers is 0, and {self.num_kept} of {self.num_positions} positions are kept; "
                "expected ≥ 1 (0 is for sequences that keep all)"
            )
        if self.condition != "text" and self.condition_length != 1:
            raise ValueError(
                f"condition_length is {self.condition_length}, expected 1 unless condition is text"
            )
        if self.condition == "none" and self.condition_vocab != 1:
            raise ValueError(f"condition_vocab is {self.condition_vocab}, expected 1 where condition is none")

    @property
    def length(self) -> int:
        """T, the number of tokens that the Code-Transformer reads."""
        return self.condition_length + self.num_kept - 1

    @property
    def null_code(self) -> int:
        """The code for no condition: a learned one, or <sos> if the model has no conditions."""
        return 0 if self.condition == "none" else self.condition_vocab


@dataclass(frozen=True)
class StackformerOutput:
    """Logits of every step: codes, and positions, -inf where not supported (None if all positions are kept)."""

    code_logits_BNK: Tensor
    position_logits_BNL: Tensor | None


@dataclass(frozen=True)
class StackformerLoss:
    """-log p of each code and of each position, in nats, ≥ 0."""

    code_BN: Tensor
    position_BN: Tensor

    @property
    def code(self) -> Tensor:
        """Eq. 11, nats per code."""
        return self.code_BN.mean()

    @property
    def position(self) -> Tensor:
        """Eq. 13, nats per position."""
        return self.position_BN.mean()

    @property
    def total(self) -> Tensor:
        """Eq. 14."""
        return self.code + self.position

    @property
    def log_likelihood_B(self) -> Tensor:
        """log p(M, P) of Eq. 9, nats per image."""
        return -(self.code_BN + self.position_BN).sum(dim=1)


def ascending_support(previous_BM: Tensor, step_M: Tensor, num_kept: int, num_positions: int) -> Tensor:
    """Positions from which N ascending ones can still be completed: p_prev < p ≤ L - 1 - (remaining codes); bool [B, M, L].

    Args:
        previous_BM: the position before each step, -1 before the first.
        step_M: the steps, 0 … N-1.
        num_kept: N.
        num_positions: L.
    """
    position_L = torch.arange(num_positions, device=previous_BM.device)
    highest_M = num_positions - num_kept + step_M
    return (position_L > previous_BM[..., None]) & (position_L <= highest_M[:, None])


def unused_support(used_at_BL: Tensor, step_M: Tensor) -> Tensor:
    """Positions that no earlier step took; bool [B, M, L].

    Args:
        used_at_BL: the step that took each position; N or more if none did.
        step_M: the steps, 0 … N-1.
    """
    return used_at_BL[:, None, :] >= step_M[:, None]


class Stackformer(nn.Module):
    """Predicts the next code, then its position (Eq. 9-14)."""

    def __init__(self, config: StackformerConfig) -> None:
        super().__init__()
        self.config, network = config, config.network
        width, heads, dropout = network.width, network.heads, network.dropout
        self.e_c = nn.Embedding(config.num_codes + config.null_code + 1, width)
        self.e_p = nn.Embedding(config.num_positions + 1, width)
        self.e_t = nn.Embedding(config.length, width)
        self.dropout = nn.Dropout(dropout)
        kind, cells = network.block, config.num_positions
        self.code_transformer = transformer(kind, width, heads, network.code_layers, dropout, cells)
        self.code_head = nn.Linear(width, config.num_codes, bias=False)
        tables = [self.e_c.weight, self.e_p.weight, self.e_t.weight, self.code_head.weight]
        if network.position_layers:
            self.position_transformer = transformer(
                kind, width, heads, network.position_layers, dropout, cells
            )
            self.position_head = nn.Linear(width, config.num_positions, bias=False)
            tables.append(self.position_head.weight)
        for table in tables:
            nn.init.normal_(table, std=0.02)

    def checkpoint_activations(self, wanted: bool) -> None:
        """Whether the backward pass computes the activations of blocks again: less memory, a third more time, the same bits."""
        for module in self.transformers():
            module.checkpointing = wanted

    def transformers(self) -> list[Transformer | ModernTransformer]:
        """The transformer of codes, then that of positions if they are predicted."""
        return [module for module in self.children() if isinstance(module, (Transformer, ModernTransformer))]

    def blocks(self) -> list[nn.Module]:
        """All blocks of both transformers, in the order of the forward pass."""
        return [block for module in self.transformers() for block in module.blocks]

    def null_condition(self, batch: int) -> Tensor:
        """The null condition, for guidance: int64 [B, N_c]."""
        return torch.full(
            (batch, self.config.condition_length), self.config.null_code, device=self.e_c.weight.device
        )

    def embed_condition(self, condition_BC: Tensor) -> Tensor:
        """U_c of the conditions, which are at position <sos> (Eq. 10)."""
        sos_D, times_CD = (
            self.e_p.weight[self.config.num_positions],
            self.e_t.weight[: self.config.condition_length],
        )
        u_BCD: Tensor = self.dropout(self.e_c(self.config.num_codes + condition_BC) + sos_D + times_CD)
        return u_BCD

    def embed(self, codes_BM: Tensor, positions_BM: Tensor, times_MD: Tensor) -> Tensor:
        """U_c of M codes and their positions (Eq. 10); `times_MD` are the rows of e_t for their places in the sequence."""
        u_BMD: Tensor = self.dropout(self.e_c(codes_BM) + self.e_p(positions_BM) + times_MD)
        return u_BMD

    def forward(self, codes_BN: Tensor, positions_BN: Tensor, condition_BC: Tensor) -> StackformerOutput:
        """Logits of every step given the true past.

        Args:
            codes_BN: int64 in 0 … K-1.
            positions_BN: int64 in 0 … L-1, distinct; ascending where the support is.
            condition_BC: int64 in 0 … condition_vocab-1, or the null code.
        """
        times_MD = self.e_t.weight[self.config.condition_length :]
        past_BMD = self.embed(codes_BN[:, :-1], positions_BN[:, :-1], times_MD)
        u_c_BTD = torch.cat([self.embed_condition(condition_BC), past_BMD], dim=1)  # (10)
        place_BT = F.pad(
            positions_BN[:, :-1], (self.config.condition_length, 0), value=self.config.num_positions
        )
        first = self.config.condition_length - 1
        h_c_BND = self.code_transformer(u_c_BTD, place_BT)[:, first:]
        code_logits_BNK = self.code_head(h_c_BND)
        if not self.config.network.position_layers:
            return StackformerOutput(code_logits_BNK, None)
        u_p_BND = h_c_BND + self.e_c(codes_BN)  # (12)
        position_logits_BNL = self.position_head(self.position_transformer(u_p_BND, place_BT[:, first:]))
        return StackformerOutput(
            code_logits_BNK,
            at_least_fp32(position_logits_BNL).masked_fill(~self.support(positions_BN), -math.inf),
        )

    def support(self, positions_BN: Tensor) -> Tensor:
        """The positions that each step may take, given the true past: bool [B, N, L]."""
        batch, device = len(positions_BN), positions_BN.device
        length, kept = self.config.num_positions, self.config.num_kept
        step_N = torch.arange(kept, device=device)
        if self.config.network.position_support == "ascending":
            return ascending_support(F.pad(positions_BN[:, :-1], (1, 0), value=-1), step_N, kept, length)
        used_at_BL = torch.full((batch, length), kept, device=device)
        return unused_support(used_at_BL.scatter(1, positions_BN, step_N.expand(batch, -1)), step_N)

    def loss(self, output: StackformerOutput, codes_BN: Tensor, positions_BN: Tensor) -> StackformerLoss:
        """-log p of each code and of each position, at least in fp32 (Eq. 11, 13)."""
        code_BN = _negative_log_likelihood(output.code_logits_BNK, codes_BN)
        if output.position_logits_BNL is None:
            return StackformerLoss(code_BN, torch.zeros_like(code_BN))
        return StackformerLoss(code_BN, _negative_log_likelihood(output.position_logits_BNL, positions_BN))

    def save_pretrained(self, folder: Path) -> None:
        """Write model.safetensors and config.json."""
        save_pretrained(self, self.config, folder)

    @classmethod
    def from_pretrained(cls, folder: Path) -> Self:
        """Load a folder written by `save_pretrained`, in eval mode, on the CPU; ValueError if its files do not fit together."""
        return load_pretrained(cls, StackformerConfig, folder)


def at_least_fp32(tensor: Tensor) -> Tensor:
    """fp32 for bf16 and fp16; fp32 and float64 unchanged."""
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor


def _negative_log_likelihood(logits_BNV: Tensor, target_BN: Tensor) -> Tensor:
    """Cross-entropy over flattened rows, because kernels are slow with the vocabulary in a middle dimension."""
    logits_RV = at_least_fp32(logits_BNV).flatten(0, 1)
    return F.cross_entropy(logits_RV, target_BN.flatten(), reduction="none").view_as(target_BN)
