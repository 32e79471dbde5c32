"""Row 2: sampling on a GPU, Stackformer 1,024 wide, 18 + 6 layers, N = 768, bf16, steps captured as CUDA graphs.

Against the floor: weights, and keys and values so far, once per step over the measured copy bandwidth. Needs a CUDA GPU; the
same steps without capture are tested against the plain ones on the CPU (tests/models/test_decoding.py).
"""

from collections.abc import Iterable

import torch

from benchmarks.floors import decoding_floor, measure_machine
from benchmarks.harness import Claim, Floor, Pairs, Result, at_most, main, measured, not_measured, seconds
from models.sampling import Sampler, SamplingSettings, Truncation
from models.stackformer import NetworkConfig, Stackformer, StackformerConfig

BARS = {1: 2.0, 64: 1.7}
PAIRS = 3
CONFIG = StackformerConfig(
    NetworkConfig(
        width=1024, heads=16, code_layers=18, position_layers=6, dropout=0.0, position_support="ascending"
    ),
    num_codes=1024,
    num_positions=1024,
    num_kept=768,
    condition="none",
    condition_length=1,
    condition_vocab=1,
)
SETTINGS = SamplingSettings(1.0, Truncation(1.0, 0, 0.9), Truncation(1.0, 0, 0.9))


def measure() -> Iterable[Result]:
    """A result a batch size."""
    for batch, bar in BARS.items():
        claim = Claim(
            row=2,
            name=f"sampling_gpu_batch_{batch:02d}",
            title=f"sampling on a GPU, batch {batch}, bf16",
            unit="× the floor",
            better="lower",
            against="",
            bar=at_most(bar),
        )
        shapes = {"batch": batch, "width": 1024, "layers": "18 + 6", "N": 768, "K": 1024, "L": 1024}
        if not torch.cuda.is_available():
            yield not_measured(claim, "no CUDA GPU here; run it where one is", shapes)
            continue
        floor, taken = times_of_floor(batch)
        times = tuple(each / floor for each in taken)
        note = f"{taken[0]:.3f} s a batch"
        yield measured(
            claim, Pairs(times, ()), shapes, note, Floor(1.0, f"{floor:.4f} s: bytes over bandwidth")
        )


def times_of_floor(batch: int) -> tuple[float, list[float]]:
    """The floor and the runs, in seconds."""
    device = torch.device("cuda")
    machine = measure_machine(device, torch.bfloat16, 8192)
    torch.manual_seed(0)
    model = Stackformer(CONFIG).eval().to(device, torch.bfloat16)
    sampler = Sampler(model, batch, SETTINGS)
    condition = torch.zeros(batch, 1, dtype=torch.int64)

    def run() -> None:
        sampler(condition, range(batch))
        torch.cuda.synchronize()

    run()
    return decoding_floor(CONFIG, batch, 2, machine), [seconds(run) for _ in range(PAIRS)]


if __name__ == "__main__":
    main(measure)
