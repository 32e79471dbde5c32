"""Find the best tiles for the decoding kernels on a GPU: `python -m benchmarks.gpu.tune`; copy its output to models/kernels.py.

Each product runs with its weights on twenty buffers in turn, more than a cache holds, captured in one graph. Candidates are
compiled by several processes first, which is most of the time.
"""

import itertools
import json
import multiprocessing
import re
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.gpu.notes import tell
from benchmarks.gpu.phase import Place
from benchmarks.gpu.speed import sampling
from models.sampling import Truncation, draw, kernels
from models.sampling.draw_kernels import FusedDraw
from models.sampling.kernels import Cuts, FusedLinear, Tiles, attend
from workspace.commands import parser_of

SHAPES = {
    "qkv": (1024, 3072, True, False),
    "out": (1024, 1024, False, False),
    "widen": (1024, 4096, True, True),
    "narrow": (4096, 1024, False, False),
}
"""Name → features in, out, LayerNorm before, GELU after; a residual if there is no norm."""
BUFFERS = 20
PROCESSES = 14


def candidates(rows: int) -> list[Tiles]:
    """To try."""
    if rows == 1:
        return [
            Tiles(outs, 1024, warps=warps, early=early)
            for outs, warps, early in itertools.product((4, 8, 16), (4, 8), (False, True))
        ]
    return [
        Tiles(outs, ins, min(64, rows), warps, stages, early)
        for outs, ins, warps, stages, early in itertools.product(
            (16, 32), (128, 256), (4, 8), (3, 4), (False, True)
        )
    ]


def maps(name: str, count: int) -> list[FusedLinear]:
    """Maps of one shape with weights of their own."""
    ins, outs, normed, gelu = SHAPES[name]
    with torch.device("cuda"):
        norm = nn.LayerNorm(ins).bfloat16() if normed else None
        return [FusedLinear(nn.Linear(ins, outs).bfloat16(), norm, gelu) for _ in range(count)]


def calls(name: str, rows: int, tiles: Tiles | None, count: int) -> Callable[[], None]:
    """All maps once; without tiles the way of single operations."""
    ins, outs, normed, gelu = SHAPES[name]
    x_RI = torch.randn(rows, ins, device="cuda", dtype=torch.bfloat16)
    residual_RO = None if normed else torch.randn(rows, outs, device="cuda", dtype=torch.bfloat16)
    made = maps(name, count)
    weight_I = torch.ones(ins, device="cuda", dtype=torch.bfloat16)
    bias_O = torch.zeros(outs, device="cuda", dtype=torch.bfloat16)
    for one in made:
        one.tiles = tiles

    def run() -> None:
        for one in made:
            if tiles is not None:
                one(x_RI, residual_RO)
                continue
            y_RO = F.linear(F.layer_norm(x_RI, (ins,), weight_I) if normed else x_RI, one.weight_OI, bias_O)
            y_RO = F.gelu(y_RO) if gelu else y_RO
            y_RO = y_RO if residual_RO is None else y_RO + residual_RO

    return run


def microseconds(work: Callable[[], None], count: int) -> float:
    """Seconds of one of `count` calls in a graph."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        work()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    taken = []
    for _ in range(8):
        torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(5):
            graph.replay()
        torch.cuda.synchronize()
        taken.append((time.perf_counter() - began) / 5 / count * 1e6)
    return statistics.median(taken[2:])


def jobs(rows: Sequence[int]) -> list[tuple[str, int, Tiles | None]]:
    """Everything to time."""
    return [(name, count, tiles) for count in rows for name in SHAPES for tiles in (None, *candidates(count))]


def compiled(numbers: Sequence[int], rows: Sequence[int]) -> None:
    """Run some of the jobs once, for the compiler's cache on disk."""
    cuts = [(count, cut) for count in rows for cut in attention_cuts(count)]
    for number in numbers:
        if number >= len(jobs(rows)):
            count, (cut, early) = cuts[number - len(jobs(rows))]
            kernels.cuts_of = lambda heads, length, cut=cut: cut  # type: ignore[misc]
            cache = torch.zeros(2, count, 16, 768, 64, device="cuda", dtype=torch.bfloat16)
            qkv_RF = torch.zeros(count, 3072, device="cuda", dtype=torch.bfloat16)
            attend(qkv_RF, cache[0], cache[1], torch.tensor([5], device="cuda"), early)
            continue
        name, count, tiles = jobs(rows)[number]
        if tiles is not None:
            try:
                calls(name, count, tiles, 1)()
            except Exception as error:
                tell(f"{name} {count} {tiles}: {type(error).__name__} {str(error)[:200]}")
    torch.cuda.synchronize()


def attention_cuts(rows: int) -> list[tuple[Cuts, bool]]:
    """To try."""
    few = itertools.product((4, 8, 16), (16, 32, 64), (1, 4))
    many = itertools.product((1, 2), (64, 128), (1, 2))
    return [(Cuts(*cut), early) for cut in (few if rows == 1 else many) for early in (False, True)]


def attention(rows: int) -> dict[str, float]:
    """Microseconds of attention at half of the paper's 768 places, sixteen heads of 64, by how places are dealt out."""
    found = {}
    caches = [torch.randn(2, rows, 16, 768, 64, device="cuda", dtype=torch.bfloat16) for _ in range(8)]
    qkv_RF = torch.randn(rows, 3072, device="cuda", dtype=torch.bfloat16)
    time_1 = torch.tensor([384], device="cuda")
    before = kernels.cuts_of
    for cut, early in attention_cuts(rows):
        kernels.cuts_of = lambda heads, length, cut=cut: cut  # type: ignore[misc]

        def run(early: bool = early) -> None:
            for cache in caches:
                attend(qkv_RF, cache[0], cache[1], time_1, early)

        found[f"{cut.splits} × {cut.places} places, {cut.warps} warps{', early' * early}"] = microseconds(
            run, len(caches)
        )
    kernels.cuts_of = before
    mask_S = torch.zeros(384, device="cuda", dtype=torch.bfloat16)[None]

    def plain() -> None:
        for cache in caches:
            F.scaled_dot_product_attention(
                qkv_RF[:, :1024].view(rows, 16, 1, 64),
                cache[0][:, :, :384],
                cache[1][:, :, :384],
                attn_mask=mask_S,
            )

    found["plain, without its two copies"] = microseconds(plain, len(caches))
    return found


def drawing(rows: int) -> dict[str, float]:
    """Microseconds of a draw from 1,024 entries, fused and by single operations."""
    logits_BV = torch.randn(rows, 1024, device="cuda")
    uniform_B = torch.rand(rows, device="cuda", dtype=torch.float64)
    truncation, fused = Truncation(1.0, 0, 0.9), FusedDraw(1.0, 0, 0.9, 1024, logits_BV.device)
    return {
        "fused": microseconds(lambda: repeat(partial(fused, logits_BV, uniform_B)), 8),
        "plain": microseconds(lambda: repeat(partial(draw, logits_BV, truncation, uniform_B)), 8),
    }


def repeat(work: Callable[[], object]) -> None:
    """Eight times."""
    for _ in range(8):
        work()


def take_best(found: dict[str, Any]) -> None:
    """Let the kernels use, at the shapes that were timed, the fastest settings."""
    tiles, cuts = {}, {}
    for key, values in found.items():
        name, _, rows = key.removesuffix(" rows").partition(", ")
        best = min(
            (label for label in values if not label.startswith("plain")), key=lambda label: values[label]
        )
        if name in SHAPES:
            tiles[int(rows), SHAPES[name][0], SHAPES[name][1]] = next(
                tile for tile in candidates(int(rows)) if str(tile) == best
            )
        elif name == "attention":
            splits, places, warps = (int(word) for word in re.findall(r"\d+", best))
            cuts[16 * int(rows)] = Cuts(splits, places, warps)
    plain_tiles, plain_cuts = kernels.tiles_of, kernels.cuts_of
    kernels.tiles_of = lambda rows, ins, outs: tiles.get((rows, ins, outs)) or plain_tiles(rows, ins, outs)
    kernels.cuts_of = lambda heads, length: cuts.get(heads) or plain_cuts(heads, length)


def main() -> None:
    """Compile, then time."""
    parser = parser_of("benchmarks.gpu.tune", __doc__)
    parser.add_argument(
        "--rows", type=int, nargs="+", default=[1, 64], help="numbers of rows per call to tune for (1 64)"
    )
    parser.add_argument("--out", help="a JSON file for the findings")
    given = parser.parse_args()
    work, found = jobs(given.rows), dict[str, Any]()
    everything = len(work) + sum(len(attention_cuts(rows)) for rows in given.rows)
    context = multiprocessing.get_context("spawn")
    others = [
        context.Process(target=compiled, args=(range(number, everything, PROCESSES), given.rows))
        for number in range(PROCESSES)
    ]
    for process in others:
        process.start()
    for process in others:
        process.join()
    tell("compiled")
    for name, rows, tiles in work:
        label = "plain" if tiles is None else str(tiles)
        try:
            taken = microseconds(calls(name, rows, tiles, BUFFERS), BUFFERS)
        except Exception as error:
            tell(f"{name} {rows} {label}: {type(error).__name__} {str(error)[:200]}")
            continue
        found.setdefault(f"{name}, {rows} rows", {})[label] = round(taken, 2)
    for rows in given.rows:
        found[f"a draw, {rows} rows"] = {key: round(value, 2) for key, value in drawing(rows).items()}
        found[f"attention, {rows} rows"] = {key: round(value, 2) for key, value in attention(rows).items()}
    for name, values in found.items():
        best = sorted(values.items(), key=lambda item: item[1])
        plain = {key: value for key, value in values.items() if key.startswith("plain")}
        tell(f"{name}: {plain}; best {best[:3]}")
    place = Place("cuda", False, Path(), Path(), None, None, time.time() + 600)
    for label in ("as they are", "tuned"):
        for rows in given.rows:
            found[f"sampling {label}, {rows} rows"] = measured = sampling(place, rows)
            tell(f"sampling {label}, {rows} rows: {measured['times_the_floor']:.2f} × the floor")
        take_best({name: values for name, values in found.items() if not name.startswith("sampling")})
    if given.out:
        with open(given.out, "w", encoding="utf-8") as file:
            json.dump(found, file, indent=1)


if __name__ == "__main__":
    main()
