"""Vector quantisation (paper Eq. 1) with a codebook learned by an EMA of its features or by gradient.

SimVQ (Zhu et al. 2024, not in the paper) moves all codes together: fixed random vectors through a learned linear map.

    Q(z; C) = argmin_k ||z - e_k||²      (1)

Shapes: B images, N features each, D features, K codes.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.base.moving import sent

Reduce = Callable[[Tensor], Tensor]
"""Sums a tensor over all workers (the identity for a single worker)."""
Admit = Callable[[Mapping[str, Tensor]], Tensor]
"""Name → scalar; returns a bool scalar: whether to update, False if a number is not finite."""
TILE = 1 << 24
"""Number of distances in memory at once: 64 MiB in fp32."""


@dataclass(frozen=True)
class QuantizerConfig:
    """How the codebook is learned.

    Attributes:
        kind: `ema` (codes are moving averages of their features), `gradient` (VQGAN's loss) or `simvq`.
        estimator: how the gradient passes the quantisation: `straight_through`, or `rotation` (Fifty et al. 2024).
        decay: decay of the moving averages (≥ 0, < 1).
        commitment: weight of ||z - sg(e)||² (≥ 0).
        restart_every: steps between restarts of dead codes (EMA only); 0 never restarts (≥ 0).
        restart_below: a code is dead when its average count is below this share of the expected count (≥ 0).
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    kind: Literal["ema", "gradient", "simvq"]
    estimator: Literal["straight_through", "rotation"]
    decay: float
    commitment: float
    restart_every: int
    restart_below: float

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay is {self.decay}, expected 0 ≤ decay < 1")
        if self.commitment < 0 or self.restart_every < 0 or self.restart_below < 0:
            raise ValueError("commitment, restart_every and restart_below are expected to be ≥ 0")


@dataclass(frozen=True)
class Quantized:
    """Quantised features.

    Attributes:
        vectors_BND: e(Q(z)), with the gradient passed to z by the estimator.
        codes_BN: int64 in 0 … K-1.
        loss: scalar, the commitment loss, plus the codebook loss if the codebook is learned by gradient.
    """

    vectors_BND: Tensor
    codes_BN: Tensor
    loss: Tensor


@dataclass(frozen=True)
class CodebookBatch:
    """A micro-batch's features, stored for the codebook's update at the end of the step.

    Attributes:
        first: index of its first image in the global batch.
        features_BND: detached features before quantisation.
        codes_BN: their codes.
        held_BN: bool, whether each slot holds a kept cell, if images keep different numbers; None if all do.
    """

    first: int
    features_BND: Tensor
    codes_BN: Tensor
    held_BN: Tensor | None = None


@dataclass(frozen=True)
class CodebookStep:
    """Result of a codebook update: each code's uses in the global batch, and the number of restarted codes (a scalar)."""

    count_K: Tensor
    restarted: Tensor


def always(numbers: Mapping[str, Tensor]) -> Tensor:
    """An `Admit` that accepts everything without a check."""
    return torch.ones((), dtype=torch.bool, device=next(iter(numbers.values())).device)


def straight_through(z_BND: Tensor, e_BND: Tensor) -> Tensor:
    """Straight-through estimator: returns e, and passes the gradient to z unchanged."""
    return z_BND + (e_BND - z_BND).detach()


def rotated(z_BND: Tensor, e_BND: Tensor) -> Tensor:
    """Rotation trick: e = λ R z, where R rotates z's direction to e's and λ = |e| / |z|, both treated as constants.

    With r = (ẑ + ê) / |ẑ + ê|: R = I - 2 r rᵀ + 2 ê ẑᵀ (Fifty et al. 2024, section 4), so e's gradient rotates with z.
    """
    with torch.no_grad():
        size_BN1 = z_BND.norm(dim=-1, keepdim=True).clamp_min(1e-6)
        scale_BN1 = e_BND.norm(dim=-1, keepdim=True) / size_BN1
        from_BND, to_BND = z_BND / size_BN1, F.normalize(e_BND, dim=-1, eps=1e-6)
        half_BND = F.normalize(from_BND + to_BND, dim=-1, eps=1e-6)
    along_BN1 = (z_BND * half_BND).sum(-1, keepdim=True)
    turned_BN1 = (z_BND * from_BND).sum(-1, keepdim=True)
    rotated_BND: Tensor = scale_BN1 * (z_BND - 2 * along_BN1 * half_BND + 2 * turned_BN1 * to_BND)
    return rotated_BND


class Quantizer(nn.Module):
    """A codebook of K codes with D features each.

    Distances and averages are at least float32, whatever the autocast. `update` is called once per step with the features of
    the whole global batch, over all workers, so that the codebook does not depend on how the batch is split.
    """

    codebook_KD: Tensor
    start_KD: Tensor
    count_K: Tensor
    sum_KD: Tensor

    def __init__(self, config: QuantizerConfig, num_codes: int, dim: int) -> None:
        super().__init__()
        self.config = config
        start_KD = torch.empty(num_codes, dim).uniform_(-1 / num_codes, 1 / num_codes)
        if config.kind == "gradient":
            self.codebook_KD = nn.Parameter(start_KD)
            return
        # SimVQ: only a linear map of fixed random codes learns, so every code moves
        if config.kind == "simvq":
            self.register_buffer("start_KD", torch.randn(num_codes, dim) / math.sqrt(dim))
            self.to_codes = nn.Linear(dim, dim, bias=False)
            self.register_buffer("codebook_KD", self.to_codes(self.start_KD).detach())
            return
        self.register_buffer("codebook_KD", start_KD)
        self.register_buffer("count_K", torch.zeros(num_codes))
        self.register_buffer("sum_KD", torch.zeros(num_codes, dim))

    @torch.no_grad()
    def nearest(self, z_BND: Tensor) -> Tensor:
        """Eq. 1: the index of the nearest code, int64 [B, N]; the first of equally near codes.

        Searches in tiles of rows, to avoid a B·N × K matrix.
        """
        codebook_KD = self.codebook_KD.to(z_BND.dtype)
        square_K = codebook_KD.square().sum(-1)
        tiles = z_BND.flatten(0, 1).split(max(1, TILE // len(codebook_KD)))
        # ||z||² is left out, because it is the same for every k
        found = [(square_K - 2 * z_RD @ codebook_KD.T).argmin(-1) for z_RD in tiles]
        return torch.cat(found).view(z_BND.shape[:2])

    def lookup(self, codes_BN: Tensor) -> Tensor:
        """e(k): codes [B, N] → vectors [B, N, D]."""
        return F.embedding(codes_BN, self.codebook_KD)

    def forward(self, z_BND: Tensor, bypass: bool = False, held_BN: Tensor | None = None) -> Quantized:
        """Quantise features.

        Args:
            z_BND: features.
            bypass: pass them through unquantised.
            held_BN: bool, whether each slot holds a kept cell; the loss covers only these. None: all do.
        """
        # autocast off: in bf16 close codes would be equally near, and the first would always win
        with torch.autocast(z_BND.device.type, enabled=False):
            z_BND = z_BND if z_BND.dtype == torch.float64 else z_BND.float()
            codes_BN = self.nearest(z_BND)
            if bypass:
                return Quantized(z_BND, codes_BN, z_BND.new_zeros(()))
            e_BND = self.lookup(codes_BN)
            loss = self.config.commitment * mse_of_held(z_BND, e_BND.detach(), held_BN)
            if self.config.kind != "ema":
                loss = loss + mse_of_held(self._learned(codes_BN), z_BND.detach(), held_BN)
            passed = rotated if self.config.estimator == "rotation" else straight_through
            return Quantized(passed(z_BND, e_BND.detach()), codes_BN, loss)

    def _learned(self, codes_BN: Tensor) -> Tensor:
        """e(k) as a function of the parameters that the codebook loss trains."""
        if self.config.kind == "simvq":
            return F.embedding(codes_BN, self.to_codes(self.start_KD))
        return self.lookup(codes_BN)

    @torch.no_grad()
    def initialise(
        self, batches: Sequence[CodebookBatch], batch: int, seed: int, reduce: Reduce, admit: Admit = always
    ) -> None:
        """Initialise an EMA codebook with features of one global batch."""
        count = self._weights(batches).sum().expand(len(self.count_K), 1)
        reduced = reduce(torch.cat([self._candidates(batches, batch, seed), count], dim=1))
        start_KD, expected = reduced[:, :-1], self._expected(batches, batch, reduced[0, -1])
        fine = admit({"the codebook's largest number": start_KD.abs().max()})
        self._take(fine, start_KD, torch.zeros_like(self.count_K) + expected, start_KD * expected)

    @torch.no_grad()
    def keep(self, total: int) -> None:
        """Continue with a loaded codebook: set each code's count to its share of the `total` features of a step.

        This gives every code a chance on the new data before it counts as dead, and discards counts of another batch size. The
        codes themselves do not change; without an EMA there is nothing to do.
        """
        if self.config.kind == "ema":
            self.count_K.fill_(total / len(self.count_K))
            self.sum_KD.copy_(self.codebook_KD * self.count_K[:, None])

    @torch.no_grad()
    def update(
        self,
        batches: Sequence[CodebookBatch],
        batch: int,
        restart: bool,
        seed: int,
        reduce: Reduce,
        admit: Admit = always,
        frozen: bool = False,
    ) -> CodebookStep:
        """Count the codes of the global batch and, for an EMA codebook, update it by one step.

        The host never waits for the device: no mask becomes indices, no number is read.

        Args:
            batches: this worker's micro-batches.
            batch: images in the global batch, over all workers.
            restart: whether dead codes restart from features of this batch.
            seed: chooses these features; equal on all workers.
            reduce: sums over workers; called once.
            admit: whether the sums may be used.
            frozen: only count.
        """
        size, dim = self.codebook_KD.shape
        codes_R = torch.cat([part.codes_BN.reshape(-1) for part in batches])
        weight_R = self._weights(batches)
        count_K = weight_R.new_zeros(size).index_add_(0, codes_R, weight_R)
        if self.config.kind == "simvq":
            self.codebook_KD.copy_(self.to_codes(self.start_KD))
        if self.config.kind != "ema" or frozen:
            return CodebookStep(reduce(count_K), count_K.new_zeros(()))
        features_RD = torch.cat([part.features_BND.reshape(-1, dim) for part in batches]).to(count_K.dtype)
        if batches[0].held_BN is not None:
            features_RD = features_RD * weight_R[:, None]
        sum_KD = torch.zeros_like(self.sum_KD).index_add_(0, codes_R, features_RD)
        parts = [count_K[:, None], sum_KD] + ([self._candidates(batches, batch, seed)] if restart else [])
        reduced = reduce(torch.cat(parts, dim=1))
        fine = admit({"the largest sum of a code's features": reduced.abs().max()})
        decay, seen_K = self.config.decay, reduced[:, 0]
        count_K = self.count_K.lerp(seen_K, 1 - decay)
        sum_KD = self.sum_KD.lerp(reduced[:, 1 : 1 + dim], 1 - decay)
        codebook_KD = torch.where(count_K[:, None] > 1e-6, sum_KD / count_K[:, None], self.codebook_KD)
        dead_K = torch.zeros_like(count_K, dtype=torch.bool)
        if restart:  # give a new code the expected count, so that it gets a chance before it counts as dead
            expected = self._expected(batches, batch, seen_K.sum())
            dead_K = count_K < self.config.restart_below * expected
            codebook_KD = torch.where(dead_K[:, None], reduced[:, 1 + dim :], codebook_KD)
            count_K = count_K.masked_fill(dead_K, expected)
            sum_KD = torch.where(dead_K[:, None], codebook_KD * expected, sum_KD)
        self._take(fine, codebook_KD, count_K, sum_KD)
        return CodebookStep(seen_K, dead_K.sum())

    def _take(self, fine: Tensor, codebook_KD: Tensor, count_K: Tensor, sum_KD: Tensor) -> None:
        """Assign the codebook and its averages if `fine` is true."""
        self.codebook_KD.copy_(torch.where(fine, codebook_KD, self.codebook_KD))
        self.count_K.copy_(torch.where(fine, count_K, self.count_K))
        self.sum_KD.copy_(torch.where(fine, sum_KD, self.sum_KD))

    def _weights(self, batches: Sequence[CodebookBatch]) -> Tensor:
        """1 for each slot that holds a kept cell, else 0, in the codebook's dtype."""
        held = [torch.ones_like(part.codes_BN) if part.held_BN is None else part.held_BN for part in batches]
        return torch.cat([part_BN.reshape(-1) for part_BN in held]).to(self.codebook_KD.dtype)

    def _expected(self, batches: Sequence[CodebookBatch], batch: int, held: Tensor) -> Tensor | float:
        """A code's uses in the global batch if all were equally frequent; `held`: number of cells that the batch keeps."""
        size = len(self.codebook_KD)
        return (
            held / size if batches[0].held_BN is not None else batch * batches[0].features_BND.shape[1] / size
        )

    def _candidates(self, batches: Sequence[CodebookBatch], batch: int, seed: int) -> Tensor:
        """K features [K, D] chosen by index in the global batch; zeros for those on other workers."""
        if batches[0].held_BN is not None:
            return self._held_candidates(batches, batch, seed)
        size, dim = self.codebook_KD.shape
        total = batch * batches[0].features_BND.shape[1]
        order = torch.randperm(total, generator=torch.Generator().manual_seed(seed))
        wanted_K = sent(order.repeat(-(-size // total))[:size], self.codebook_KD.device)
        found_KD = torch.zeros_like(self.codebook_KD)
        for part in batches:
            features_RD = part.features_BND.reshape(-1, dim).to(found_KD.dtype)
            row_K = wanted_K - part.first * part.features_BND.shape[1]
            mine_K = (row_K >= 0) & (row_K < len(features_RD))
            chosen_KD = features_RD[row_K.clamp(0, len(features_RD) - 1)]
            found_KD = torch.where(mine_K[:, None], chosen_KD, found_KD)
        return found_KD

    def _held_candidates(self, batches: Sequence[CodebookBatch], batch: int, seed: int) -> Tensor:
        """The same if images keep different numbers of cells, which only an image's own worker knows.

        Each code therefore gets an image of the global batch and a relative place in 0 … 1 among its kept cells. The codes of
        one image take its cells in strata, so two codes start equal only if the image keeps fewer cells than it has codes.
        """
        size, device = len(self.codebook_KD), self.codebook_KD.device
        generator = torch.Generator().manual_seed(seed)
        turns = -(-size // batch)
        image_K = sent(torch.randperm(batch, generator=generator).repeat(turns)[:size], device)
        place_K = torch.rand(size, dtype=torch.float64, generator=generator)
        place_K = sent((torch.arange(size) // batch + place_K) / turns, device)
        found_KD = torch.zeros_like(self.codebook_KD)
        for part in batches:
            assert part.held_BN is not None
            row_K = image_K - part.first
            mine_K = (row_K >= 0) & (row_K < len(part.held_BN))
            row_K = row_K.clamp(0, len(part.held_BN) - 1)
            held_KN = part.held_BN[row_K]
            nth_K1 = (place_K * held_KN.sum(1)).long()[:, None] + 1
            slot_K = ((held_KN.cumsum(1) == nth_K1) & held_KN).long().argmax(1)
            chosen_KD = part.features_BND[row_K, slot_K].to(found_KD.dtype)
            found_KD = torch.where(mine_K[:, None], chosen_KD, found_KD)
        return found_KD


def mse_of_held(a_BND: Tensor, b_BND: Tensor, held_BN: Tensor | None) -> Tensor:
    """Mean squared difference over the slots with a kept cell, per image, so that all images have the same weight."""
    if held_BN is None:
        return F.mse_loss(a_BND, b_BND)
    square_BN = (a_BND - b_BND).square().mean(-1) * held_BN
    return (square_BN.sum(1) / held_BN.sum(1)).mean()
