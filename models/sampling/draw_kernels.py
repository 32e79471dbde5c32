"""Triton kernels that draw from a distribution on a GPU without sorting it: two launches instead of sixteen.

An entry's rank in order of likelihood is the number of entries before it, and its position along the uniform number is their
total probability. Each program computes both for some entries, in float64 like `models.sampling.choice.draw`.

Shapes: B images, V entries of a vocabulary.
"""
# mypy: disable-error-code="untyped-decorator"

import torch
import triton
import triton.language as tl
from torch import Tensor

MOST_ENTRIES = 1024
"""Largest vocabulary for these kernels, which compare all pairs of entries; larger ones were not tried on a GPU."""
SOME_ENTRIES = 16
"""Number of entries placed by one program."""


@triton.jit
def _placed(  # type: ignore[no-untyped-def]
    logits, previous, step, ranks, shares, befores, truncation, stride, highest,
    V: tl.constexpr, BLOCK_V: tl.constexpr, BLOCK_W: tl.constexpr, TOP_K: tl.constexpr, ASCENDING: tl.constexpr,
):  # fmt: skip
    """The places of some entries in a row's order, without sorting: the number of entries before each, and their probability.

    An entry comes before another if it is likelier, or equally likely with a lower index. With TOP_K, ranks are already known
    and entries from that rank on have no probability.
    """
    row, v = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK_V)
    w = tl.program_id(1) * BLOCK_W + tl.arange(0, BLOCK_W)
    x = tl.load(logits + row * stride + v, mask=v < V, other=float("-inf")).to(tl.float32)
    mine = tl.load(logits + row * stride + w, mask=w < V, other=float("-inf")).to(tl.float32)
    if ASCENDING:
        lowest, top = tl.load(previous + row), highest + tl.load(step)
        x = tl.where((v > lowest) & (v <= top), x, float("-inf"))
        mine = tl.where((w > lowest) & (w <= top), mine, float("-inf"))
    most = tl.max(x, 0).to(tl.float64)
    temperature = tl.load(truncation)
    share_V = tl.exp((x.to(tl.float64) - most) / temperature)
    share_W = tl.exp((mine.to(tl.float64) - most) / temperature)
    if TOP_K:
        share_V = tl.where(tl.load(ranks + row * V + v, mask=v < V, other=V) < TOP_K, share_V, 0.0)
        share_W = tl.where(tl.load(ranks + row * V + w, mask=w < V, other=V) < TOP_K, share_W, 0.0)
    total = tl.sum(share_V, 0)
    first = (x[None, :] > mine[:, None]) | ((x[None, :] == mine[:, None]) & (v[None, :] < w[:, None]))
    before_W = tl.sum(tl.where(first, share_V[None, :], 0.0), 1) / total
    at, there = row * V + w, w < V
    if TOP_K == 0:
        tl.store(ranks + at, tl.sum(first.to(tl.int32), 1), mask=there)
    tl.store(shares + at, share_W / total, mask=there)
    tl.store(befores + at, before_W, mask=there)


@triton.jit
def _chosen(  # type: ignore[no-untyped-def]
    ranks, shares, befores, uniform, out, truncation, uniform_stride, V: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """A row's entry: among the smallest set of likeliest entries that reaches top_p, the last one whose predecessors' probability
    does not reach the uniform number."""
    row, v = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK_V)
    at, there = row * V + v, v < V
    share = tl.load(shares + at, mask=there, other=0.0)
    before = tl.load(befores + at, mask=there, other=2.0)
    nucleus = (before < tl.load(truncation + 1)) & (share > 0)
    goal = tl.load(uniform + row * uniform_stride) * tl.sum(tl.where(nucleus, share, 0.0), 0)
    rank = tl.where(nucleus & (before <= goal), tl.load(ranks + at, mask=there, other=0), -1)
    tl.store(out + row, tl.argmax(rank, 0).to(tl.int64))


class FusedDraw:
    """`models.sampling.choice.draw` in two launches, preceded by the support mask of ascending positions, if given.

    Args:
        temperature: divides the logits.
        top_k: see `models.sampling.choice.Truncation`.
        top_p: see `models.sampling.choice.Truncation`.
        size: V, at most `MOST_ENTRIES`.
        device: the GPU.
        highest: L - N if positions must ascend: entry v is supported if previous < v ≤ highest + step; else None.
    """

    def __init__(
        self,
        temperature: float,
        top_k: int,
        top_p: float,
        size: int,
        device: torch.device,
        highest: int | None = None,
    ) -> None:
        self.truncation_2 = torch.tensor([temperature, top_p], dtype=torch.float64, device=device)
        self.top_k, self.size, self.highest = top_k if top_k < size else 0, size, highest

    def __call__(
        self,
        logits_BV: Tensor,
        uniform_B: Tensor,
        previous_B: Tensor | None = None,
        step_1: Tensor | None = None,
    ) -> Tensor:
        """An entry per row, int64 [B]."""
        assert (self.highest is not None) == (previous_B is not None)
        batch, size = len(logits_BV), self.size
        out_B = torch.empty(batch, dtype=torch.int64, device=logits_BV.device)
        ranks_BV = torch.empty(batch, size, dtype=torch.int32, device=logits_BV.device)
        shares_BV, befores_BV = torch.empty(2, batch, size, dtype=torch.float64, device=logits_BV.device)
        previous, step = (out_B, out_B) if previous_B is None or step_1 is None else (previous_B, step_1)
        block = triton.next_power_of_2(size)
        some = min(SOME_ENTRIES, block)
        for top_k in (0, self.top_k) if self.top_k else (0,):
            _placed[(batch, triton.cdiv(size, some))](
                logits_BV, previous, step, ranks_BV, shares_BV, befores_BV, self.truncation_2, logits_BV.stride(0),
                self.highest or 0, V=size, BLOCK_V=block, BLOCK_W=some, TOP_K=top_k,
                ASCENDING=self.highest is not None, num_warps=4,
            )  # fmt: skip
        _chosen[(batch,)](
            ranks_BV, shares_BV, befores_BV, uniform_B, out_B, self.truncation_2, uniform_B.stride(0),
            V=size, BLOCK_V=block, num_warps=4,
        )  # fmt: skip
        return out_B
