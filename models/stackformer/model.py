"""Stackformer (paper section 3.3): a Code-Transformer, and a Position-Transformer stacked on it.

    p(M, P) = Π_n p(M_n | M_<n, P_<n) p(P_n | M_≤n, P_<n)     (9)
    U_c = e_c(M) + e_p(P) (+ a learned absolute embedding)   (10)
    L_code = E[-log p(M_n | M_<n, P_<n)]                     (11)
    U_p = H_c[N_c-1 : N_c+N-1] + e_c(M[N_c : N_c+N])         (12)  0-based and half open here
    L_position = E[-log p(P_n | M_≤n, P_<n)]                 (13)
    L = L_code + L_position                                  (14)

A sequence is N_c conditions, each at the position <sos>, then the N kept codes in raster order. The last code and its position
predict nothing and are not fed, so the Code-Transformer reads T = N_c + N - 1 tokens.

If images have different numbers of codes (`fewest_kept`), a stop is one more symbol among the positions: before each code, and
so before its position, the sequence ends or not, given h_c. Its probability is 0 before the fewest codes, 1 after the most and
where no cell is left, and else learned; its nats count as the position's (docs/decisions/0053). The sequences of a batch are
padded at the end, and a slot at position L is empty.

Shapes: B images, C = N_c conditions, N kept codes, T tokens read, M tokens of a part, K codes, L positions,
D width.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.base.given import require_sequences
from models.base.pretrained import load_pretrained, save_pretrained
from models.stackformer.config import StackformerConfig
from models.stackformer.support import ascending_support, previous_positions, stop_chance, unused_support
from models.stackformer.transformer import ModernTransformer, Transformer, transformer


@dataclass(frozen=True)
class StackformerOutput:
    """Logits of every step: codes, and positions, -inf where not supported (None if all positions are kept).

    `stop_logits_BN` are the log odds of ending before that step's code; None if all images have N codes.
    """

    code_logits_BNK: Tensor
    position_logits_BNL: Tensor | None
    stop_logits_BN: Tensor | None = None


@dataclass(frozen=True)
class StackformerLoss:
    """-log p of each code and of each position, in nats, ≥ 0; 0 in empty slots.

    Attributes:
        code_BN: of codes.
        position_BN: of positions, and of ending, or not, before them.
        most: the most codes of an image, if images have different numbers of them: the means are over that many slots whatever a
            batch is padded to, so that an image weighs the same in any micro-batch.
    """

    code_BN: Tensor
    position_BN: Tensor
    most: int | None = None

    @property
    def code(self) -> Tensor:
        """Eq. 11, nats per code."""
        return self._mean(self.code_BN)

    @property
    def position(self) -> Tensor:
        """Eq. 13, nats per position."""
        return self._mean(self.position_BN)

    def _mean(self, nats_BN: Tensor) -> Tensor:
        return nats_BN.mean() if self.most is None else nats_BN.sum(dim=1).mean() / self.most

    @property
    def total(self) -> Tensor:
        """Eq. 14."""
        return self.code + self.position

    @property
    def log_likelihood_B(self) -> Tensor:
        """log p(M, P) of Eq. 9, nats per image."""
        return -(self.code_BN + self.position_BN).sum(dim=1)


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
        if config.stops:
            self.stop_head = nn.Linear(width, 1)
            nn.init.zeros_(self.stop_head.weight)
            nn.init.zeros_(self.stop_head.bias)

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
            positions_BN: int64 in 0 … L-1, distinct; ascending where the support is. If images have different numbers of codes, N
                is one more than the longest has, at most `num_kept`, and empty slots, at the end, are at L.
            condition_BC: int64 in 0 … condition_vocab-1, or the null code.

        Raises:
            ValueError: another type or shape.
        """
        require_sequences(codes_BN, positions_BN, condition_BC, self.config.condition_length)
        times_MD = self.e_t.weight[self.config.condition_length :][: codes_BN.shape[1] - 1]
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
        support_BNL, stop_logits_BN = self.support(positions_BN), None
        if self.config.stops:
            # an empty slot may take any place: the softmax over no place at all is not a number
            support_BNL = support_BNL | (positions_BN == self.config.num_positions)[..., None]
            stop_logits_BN = at_least_fp32(self.stop_head(h_c_BND).squeeze(-1))
        logits_BNL = at_least_fp32(position_logits_BNL).masked_fill(~support_BNL, -math.inf)
        return StackformerOutput(code_logits_BNK, logits_BNL, stop_logits_BN)

    def support(self, positions_BN: Tensor) -> Tensor:
        """The positions that each step may take, given the true past: bool [B, N, L]."""
        batch, device = len(positions_BN), positions_BN.device
        length, kept = self.config.num_positions, self.config.num_kept
        step_N = torch.arange(positions_BN.shape[1], device=device)
        if self.config.network.position_support == "ascending":
            return ascending_support(previous_positions(positions_BN), step_N, self.config.fewest, length)
        used_at_BL = torch.full((batch, length + 1), kept, device=device)  # the last one is for empty slots
        used_at_BL = used_at_BL.scatter(1, positions_BN, step_N.expand(batch, -1))[:, :length]
        return unused_support(used_at_BL, step_N)

    def loss(self, output: StackformerOutput, codes_BN: Tensor, positions_BN: Tensor) -> StackformerLoss:
        """-log p of each code and of each position, at least in fp32 (Eq. 11, 13)."""
        code_BN = _negative_log_likelihood(output.code_logits_BNK, codes_BN)
        if output.position_logits_BNL is None:
            return StackformerLoss(code_BN, torch.zeros_like(code_BN))
        if output.stop_logits_BN is not None:
            return self._loss_of_slots(output, code_BN, positions_BN)
        return StackformerLoss(code_BN, _negative_log_likelihood(output.position_logits_BNL, positions_BN))

    def _loss_of_slots(
        self, output: StackformerOutput, code_BN: Tensor, positions_BN: Tensor
    ) -> StackformerLoss:
        assert output.position_logits_BNL is not None and output.stop_logits_BN is not None
        cells, step_N = (
            self.config.num_positions,
            torch.arange(positions_BN.shape[1], device=positions_BN.device),
        )
        held_BN = positions_BN < cells
        position_BN = _negative_log_likelihood(output.position_logits_BNL, positions_BN.clamp(max=cells - 1))
        chance = stop_chance(self.config, previous_positions(positions_BN), step_N, self.config.fewest)
        free_BN = chance.may_BM & ~chance.must_BM & (step_N <= held_BN.sum(dim=1, keepdim=True))
        ends_BN = (~held_BN).to(output.stop_logits_BN.dtype)
        stop_BN = F.binary_cross_entropy_with_logits(output.stop_logits_BN, ends_BN, reduction="none")
        nats_BN = position_BN.where(held_BN, 0.0) + stop_BN.where(free_BN, 0.0)
        return StackformerLoss(code_BN.where(held_BN, 0.0), nats_BN, self.config.num_kept)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write model.safetensors and config.json."""
        save_pretrained(self, self.config, folder)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """Load a folder written by `save_pretrained`, in eval mode, on the CPU; ValueError if its files do not fit together."""
        return load_pretrained(cls, StackformerConfig, folder)


def at_least_fp32(tensor: Tensor) -> Tensor:
    """fp32 for bf16 and fp16; fp32 and float64 unchanged."""
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor


def _negative_log_likelihood(logits_BNV: Tensor, target_BN: Tensor) -> Tensor:
    """Cross-entropy over flattened rows, because kernels are slow with the vocabulary in a middle dimension."""
    logits_RV = at_least_fp32(logits_BNV).flatten(0, 1)
    return F.cross_entropy(logits_RV, target_BN.flatten(), reduction="none").view_as(target_BN)
