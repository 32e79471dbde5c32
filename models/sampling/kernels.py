"""Triton kernels for a decoding step on a GPU: five or six launches per block instead of thirteen.

With few rows a step is bound by reading the weights, keys and values, and by the microseconds per launch even in a CUDA graph.
The work between two matrix products is therefore fused into them: LayerNorm before, GELU or the residual sum after. Products and
sums are computed in fp32.

A LayerNorm (weights γ, β) before a linear map needs no separate pass: with W' = W γ, s = Σ W' and c = W β + b,

    W LN(x) + b = (W' x - mean(x) s) / std(x) + c

where mean and std are accumulated while x is read for the product.

Shapes: R rows, I features in, O features out, H heads of E features, T places of the cache.
"""
# ruff: noqa: E741  # O is this file's letter for features out, I for those in
# mypy: disable-error-code="untyped-decorator"

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

EARLY = True
"""Whether kernels start early if the GPU can; a switch for benchmarks."""
MOST_ROWS = 64
"""Rows per tile; more rows use more tiles."""


@dataclass(frozen=True)
class Tiles:
    """How a product is divided among programs.

    Attributes:
        outs: output features per program.
        ins: input features read at once.
        rows: rows per program.
        warps: warps per program.
        stages: reads in flight at once.
        early: whether a program may start and read its weights before the previous kernel has finished (programmatic
            dependent launch, from compute capability 9.0 on).
    """

    outs: int
    ins: int
    rows: int = 1
    warps: int = 4
    stages: int = 3
    early: bool = False


def starts_early() -> bool:
    """Whether kernels start early on this GPU."""
    return EARLY and torch.cuda.is_available() and torch.cuda.get_device_capability() >= (9, 0)


def tiles_of(rows: int, ins: int, outs: int) -> Tiles:
    """The fastest tiles on an H200 (docs/results/gpu.md), for multiples of 1,024 features."""
    early = starts_early()
    if rows == 1:
        return Tiles(8 if outs >= 2048 else 4, 1024, warps=8 if ins > 1024 else 4, early=early)
    tile = min(MOST_ROWS, max(16, triton.next_power_of_2(rows)))
    return Tiles(32 if outs >= 2048 else 16, 256 if ins > 1024 else 128, tile, stages=4, early=early)


PROGRAMS = 256
"""Fewest attention programs that occupy a GPU with about a hundred processors."""


@dataclass(frozen=True)
class Cuts:
    """How the places that a head attends to are divided: number of programs, places at once, warps."""

    splits: int
    places: int
    warps: int


def cuts_of(heads: int, length: int) -> Cuts:
    """The division for this many heads over all rows: enough programs for the GPU, and none without places.

    Args:
        heads: R · H.
        length: T.
    """
    if heads >= PROGRAMS:
        return Cuts(1, 64, 1)
    splits = triton.next_power_of_2(triton.cdiv(PROGRAMS, heads))
    return Cuts(max(1, min(splits, triton.next_power_of_2(triton.cdiv(length, 32)) // 2)), 32, 1)


@triton.jit
def _finished(y, bias, residual, at, mask, GELU: tl.constexpr, ADD: tl.constexpr):  # type: ignore[no-untyped-def]
    """The operations after a product: bias, GELU, residual."""
    y = y + bias
    if GELU:
        y = 0.5 * y * (1.0 + tl.erf(y * 0.7071067811865476))
    if ADD:
        y = y + tl.load(residual + at, mask=mask, other=0.0).to(tl.float32)
    return y


@triton.jit
def _one_row(  # type: ignore[no-untyped-def]
    x, weight, bias, sums, residual, out, O, eps,
    I: tl.constexpr, NORM: tl.constexpr, GELU: tl.constexpr, ADD: tl.constexpr,
    EARLY: tl.constexpr, BLOCK_O: tl.constexpr, BLOCK_I: tl.constexpr,
):  # fmt: skip
    """One row: each program multiplies BLOCK_O rows of the weight with x, and sums at the end."""
    o = tl.program_id(0) * BLOCK_O + tl.arange(0, BLOCK_O)
    there = o < O
    i = tl.arange(0, BLOCK_I)
    w = tl.load(weight + o[:, None] * I + i[None, :], mask=there[:, None], other=0.0)
    if EARLY:
        gdc_wait()  # nothing that the previous kernel writes may be read before this
    product = tl.zeros([BLOCK_O, BLOCK_I], tl.float32)
    total = tl.zeros([BLOCK_I], tl.float32)
    squares = tl.zeros([BLOCK_I], tl.float32)
    for start in tl.static_range(0, I, BLOCK_I):
        x_I = tl.load(x + start + i).to(tl.float32)
        product += w.to(tl.float32) * x_I[None, :]
        if NORM:
            total += x_I
            squares += x_I * x_I
        if start + BLOCK_I < I:
            w = tl.load(
                weight + o[:, None] * I + (start + BLOCK_I + i)[None, :], mask=there[:, None], other=0.0
            )
    if EARLY:
        gdc_launch_dependents()
    y = tl.sum(product, 1)
    if NORM:
        mean = tl.sum(total, 0) / I
        scale = tl.rsqrt(tl.sum(squares, 0) / I - mean * mean + eps)
        y = scale * (y - mean * tl.load(sums + o, mask=there, other=0.0))
    y = _finished(y, tl.load(bias + o, mask=there, other=0.0), residual, o, there, GELU, ADD)
    tl.store(out + o, y.to(out.dtype.element_ty), mask=there)


@triton.jit
def _many_rows(  # type: ignore[no-untyped-def]
    x, weight, bias, sums, residual, out, R, O, eps,
    I: tl.constexpr, NORM: tl.constexpr, GELU: tl.constexpr, ADD: tl.constexpr,
    EARLY: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_O: tl.constexpr, BLOCK_I: tl.constexpr,
):  # fmt: skip
    """A tile of rows: like one row, but on the matrix units."""
    o = tl.program_id(0) * BLOCK_O + tl.arange(0, BLOCK_O)
    r = tl.program_id(1) * BLOCK_R + tl.arange(0, BLOCK_R)
    there_O, there_R = o < O, r < R
    product = tl.zeros([BLOCK_R, BLOCK_O], tl.float32)
    total = tl.zeros([BLOCK_R], tl.float32)
    squares = tl.zeros([BLOCK_R], tl.float32)
    if EARLY:
        gdc_wait()
    for start in range(0, I, BLOCK_I):
        i = start + tl.arange(0, BLOCK_I)
        w = tl.load(weight + o[:, None] * I + i[None, :], mask=there_O[:, None], other=0.0)
        x_RI = tl.load(x + r[:, None] * I + i[None, :], mask=there_R[:, None], other=0.0)
        product = tl.dot(x_RI, tl.trans(w), product)
        if NORM:
            wide = x_RI.to(tl.float32)
            total += tl.sum(wide, 1)
            squares += tl.sum(wide * wide, 1)
    if EARLY:
        gdc_launch_dependents()
    y = product
    if NORM:
        mean = total / I
        scale = tl.rsqrt(squares / I - mean * mean + eps)
        y = scale[:, None] * (y - mean[:, None] * tl.load(sums + o, mask=there_O, other=0.0)[None, :])
    at, mask = r[:, None] * O + o[None, :], there_R[:, None] & there_O[None, :]
    y = _finished(y, tl.load(bias + o, mask=there_O, other=0.0)[None, :], residual, at, mask, GELU, ADD)
    tl.store(out + at, y.to(out.dtype.element_ty), mask=mask)


@triton.jit
def _attend(  # type: ignore[no-untyped-def]
    qkv, keys, values, time, out, parts, scale,
    H: tl.constexpr, T: tl.constexpr, E: tl.constexpr, SPLITS: tl.constexpr, EARLY: tl.constexpr, BLOCK_T: tl.constexpr,
):  # fmt: skip
    """Attention of one head of a row to a share of the places; the first share also stores the current key and value."""
    program, split = tl.program_id(0).to(tl.int64), tl.program_id(1)
    row, head, e = program // H, program % H, tl.arange(0, E)
    now = tl.load(time)
    span = tl.cdiv(tl.cdiv(now, SPLITS), BLOCK_T) * BLOCK_T
    cache = program * (T * E)
    if EARLY:
        gdc_wait()
    mine = qkv + row * (3 * H * E) + head * E + e
    q = tl.load(mine).to(tl.float32) * scale
    highest = tl.full([], float("-inf"), tl.float32)
    weight = tl.full([], 0.0, tl.float32)
    heard = tl.zeros([E], tl.float32)
    if split == 0:
        k, v = tl.load(mine + H * E), tl.load(mine + 2 * H * E)
        tl.store(keys + cache + now * E + e, k)
        tl.store(values + cache + now * E + e, v)
        highest = tl.sum(q * k.to(tl.float32), 0)
        weight = tl.full([], 1.0, tl.float32)
        heard = v.to(tl.float32)
    for start in range(split * span, tl.minimum(now, (split + 1) * span), BLOCK_T):
        t = start + tl.arange(0, BLOCK_T)
        at, before = cache + t[:, None] * E + e[None, :], t < now
        k_TE = tl.load(keys + at, mask=before[:, None], other=0.0).to(tl.float32)
        v_TE = tl.load(values + at, mask=before[:, None], other=0.0).to(tl.float32)
        score = tl.where(before, tl.sum(k_TE * q[None, :], 1), float("-inf"))
        higher = tl.maximum(highest, tl.max(score, 0))
        share, kept = tl.exp(score - higher), tl.exp(highest - higher)
        weight = weight * kept + tl.sum(share, 0)
        heard = heard * kept + tl.sum(share[:, None] * v_TE, 0)
        highest = higher
    if EARLY:
        gdc_launch_dependents()
    if SPLITS == 1:
        tl.store(out + program * E + e, (heard / weight).to(out.dtype.element_ty))
    else:
        part = parts + (program * SPLITS + split) * (E + 2)
        tl.store(part + e, heard)
        tl.store(part + E, highest)
        tl.store(part + E + 1, weight)


@triton.jit
def _joined(  # type: ignore[no-untyped-def]
    parts, out, E: tl.constexpr, SPLITS: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """Combine a head's shares, each of which was normalised by its own highest score."""
    program, e, s = tl.program_id(0).to(tl.int64), tl.arange(0, E), tl.arange(0, SPLITS)
    if EARLY:
        gdc_wait()
    part = parts + (program * SPLITS + s) * (E + 2)
    highest_S, weight_S = tl.load(part + E), tl.load(part + E + 1)
    kept_S = tl.exp(highest_S - tl.max(highest_S, 0))
    heard_E = tl.sum(tl.load(part[:, None] + e[None, :]) * kept_S[:, None], 0)
    if EARLY:
        gdc_launch_dependents()
    tl.store(out + program * E + e, (heard_E / tl.sum(weight_S * kept_S, 0)).to(out.dtype.element_ty))


class FusedLinear:
    """act(norm(x) Wᵀ + b) (+ residual) of rows in bf16 or fp16, in one launch.

    Args:
        linear: the map; folding a norm into it copies its weight.
        norm: a LayerNorm before it, or None.
        gelu: whether GELU follows.
    """

    def __init__(
        self, linear: torch.nn.Linear, norm: torch.nn.LayerNorm | None = None, gelu: bool = False
    ) -> None:
        weight_OI, bias_O = linear.weight.detach(), linear.bias
        self.bias_O = (
            torch.zeros(len(weight_OI), device=weight_OI.device)
            if bias_O is None
            else bias_O.detach().float()
        )
        self.weight_OI, self.sums_O, self.eps = weight_OI.contiguous(), self.bias_O, 0.0
        self.norm, self.gelu = norm is not None, gelu
        self.tiles: Tiles | None = None
        if norm is not None:
            self.weight_OI = (weight_OI.float() * norm.weight.detach().float()).to(weight_OI.dtype)
            self.sums_O = self.weight_OI.float().sum(1)
            self.bias_O = self.bias_O + weight_OI.float() @ norm.bias.detach().float()
            self.eps = norm.eps

    def __call__(self, x_RI: Tensor, residual_RO: Tensor | None = None) -> Tensor:
        """[R, I] → [R, O], contiguous."""
        (rows, width), outs = x_RI.shape, len(self.weight_OI)
        out_RO = x_RI.new_empty(rows, outs)
        given = (
            x_RI,
            self.weight_OI,
            self.bias_O,
            self.sums_O,
            x_RI if residual_RO is None else residual_RO,
            out_RO,
        )
        how = {"I": width, "NORM": self.norm, "GELU": self.gelu, "ADD": residual_RO is not None}
        tiles = self.tiles or tiles_of(rows, width, outs)
        blocks = {"BLOCK_O": tiles.outs, "BLOCK_I": _block(width, tiles.ins), "EARLY": tiles.early}
        launch = {
            "num_warps": tiles.warps,
            "num_stages": tiles.stages,
            **({"launch_pdl": True} if tiles.early else {}),
        }
        if rows == 1:
            _one_row[(triton.cdiv(outs, tiles.outs),)](*given, outs, self.eps, **how, **blocks, **launch)
        else:
            grid = (triton.cdiv(outs, tiles.outs), triton.cdiv(rows, tiles.rows))
            _many_rows[grid](*given, rows, outs, self.eps, **how, BLOCK_R=tiles.rows, **blocks, **launch)
        return out_RO


def _block(width: int, most: int) -> int:
    """The largest power of two that divides a width, up to `most`."""
    return min(most, width & -width)


def attend(qkv_RF: Tensor, k_RHTE: Tensor, v_RHTE: Tensor, time_1: Tensor, early: bool = False) -> Tensor:
    """One step of causal attention: stores the keys and values of `time_1`, and attends to these and all earlier ones;
    [R, H · E].

    Args:
        qkv_RF: queries, keys and values of one token per row, [R, 3 · H · E], contiguous.
        k_RHTE: cached keys, contiguous; written at `time_1`.
        v_RHTE: cached values, likewise.
        time_1: int64 [1], on the device, so that one captured graph serves all steps.
        early: see `Tiles`.
    """
    rows, heads, length, size = k_RHTE.shape
    out_RD = qkv_RF.new_empty(rows, heads * size)
    cut = cuts_of(rows * heads, length)
    parts = (
        qkv_RF.new_empty(rows * heads * cut.splits * (size + 2), dtype=torch.float32)
        if cut.splits > 1
        else out_RD
    )
    launch = {"launch_pdl": True} if early else {}
    _attend[(rows * heads, cut.splits)](
        qkv_RF, k_RHTE, v_RHTE, time_1, out_RD, parts, size**-0.5,
        H=heads, T=length, E=size, SPLITS=cut.splits, EARLY=early, BLOCK_T=cut.places, num_warps=cut.warps, **launch,
    )  # fmt: skip
    if cut.splits > 1:
        _joined[(rows * heads,)](parts, out_RD, E=size, SPLITS=cut.splits, EARLY=early, num_warps=1, **launch)
    return out_RD
