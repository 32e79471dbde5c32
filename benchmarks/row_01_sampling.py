"""Row 1: sampling on two CPU threads, Stackformer 512 wide, 12 + 4 layers, N = 192, K = 1,024, L = 256; fp32 and bf16.

Against full recomputation in fp32 (benchmarks/literal_sampling.py): both transformers on the whole prefix, code and position
separately. A run of it takes up to twenty minutes, so steps are timed at four prefix lengths and integrated; ours runs in full.
The faster precision carries the bar, the other is reported beside it.
"""

import statistics
from collections.abc import Iterable
from typing import Any

import torch

from benchmarks.floors import decoding_floor, measure_machine
from benchmarks.harness import Claim, Floor, Pairs, Result, at_least, main, measured, seconds
from benchmarks.literal_sampling import seconds_by_recomputation
from models.sampling import Sampler, SamplingSettings, Truncation
from models.stackformer import NetworkConfig, Stackformer, StackformerConfig

THREADS = 2
PAIRS = {1: 3, 8: 3, 32: 2}
BARS = {1: 15.0, 8: 60.0, 32: 100.0}
KNOTS = (0, 64, 128, 191)
CONFIG = StackformerConfig(
    NetworkConfig(
        width=512, heads=8, code_layers=12, position_layers=4, dropout=0.0, position_support="ascending"
    ),
    num_codes=1024,
    num_positions=256,
    num_kept=192,
    condition="none",
    condition_length=1,
    condition_vocab=1,
)
SETTINGS = SamplingSettings(1.0, Truncation(1.0, 0, 0.9), Truncation(1.0, 0, 0.9))
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def models() -> dict[str, Stackformer]:
    """The same weights in each precision."""
    made = {}
    for name, dtype in DTYPES.items():
        torch.manual_seed(0)
        made[name] = Stackformer(CONFIG).eval().to(dtype)
    return made


def run_in_turn(nets: dict[str, Stackformer], batch: int) -> dict[str, Pairs]:
    """Ours in both precisions and the reference, in turn; each pair shares the reference's figure."""
    condition = torch.zeros(batch, 1, dtype=torch.int64)
    samplers = {name: Sampler(net, batch, SETTINGS) for name, net in nets.items()}
    for sampler in samplers.values():
        sampler(condition, range(batch))
    seconds_by_recomputation(nets["fp32"], condition[:1], SETTINGS, KNOTS[:2])
    ours: dict[str, list[float]] = {name: [] for name in nets}
    reference = []
    for _ in range(PAIRS[batch]):
        for name, sampler in samplers.items():
            ours[name].append(seconds(lambda sampler=sampler: sampler(condition, range(batch))))  # type: ignore[misc]
        reference.append(seconds_by_recomputation(nets["fp32"], condition, SETTINGS, KNOTS))
    return {name: Pairs(tuple(taken), tuple(reference)) for name, taken in ours.items()}


def measure() -> Iterable[Result]:
    """A result a batch size and precision."""
    torch.set_num_threads(THREADS)
    nets = models()
    machines = {name: measure_machine(torch.device("cpu"), dtype, 2048) for name, dtype in DTYPES.items()}
    for batch, bar in BARS.items():
        pairs = run_in_turn(nets, batch)
        faster = min(pairs, key=lambda name: statistics.median(pairs[name].ours))
        for name in nets:
            claim = Claim(
                row=1,
                name=f"sampling_batch_{batch:02d}_{name}",
                title=f"sampling, batch {batch}, {name}",
                unit="s",
                better="lower",
                against="full recomputation, fp32",
                bar=at_least(bar) if name == faster else None,
            )
            bound = decoding_floor(CONFIG, batch, DTYPES[name].itemsize, machines[name])
            floor = Floor(
                bound,
                f"weights and keys + values read once per step, or its arithmetic; {machines[name].text()}",
            )
            note = f"the reference is timed at prefixes of {', '.join(map(str, KNOTS))} and integrated; ours in full"
            if name != faster:
                note += f"; {faster} is faster and carries the bar (≥ {bar:g}×)"
            yield measured(claim, pairs[name], shapes(batch), note, floor)


def shapes(batch: int) -> dict[str, Any]:
    """The run's settings."""
    network = CONFIG.network
    layers = f"{network.code_layers} + {network.position_layers}"
    sizes = {"K": CONFIG.num_codes, "L": CONFIG.num_positions, "N": CONFIG.num_kept}
    return {"batch": batch, "width": network.width, "layers": layers, "threads": THREADS} | sizes


if __name__ == "__main__":
    main(measure)
