"""Row 6: a training step of the MQ-VAE at the paper's size (256 px, f8) on a GPU: bf16, compiled, against fp32, eager.

After the timing both train on for 500 steps; the note gives the median gap of their losses and fp32's own scatter.
Needs a CUDA GPU; that the compiled step is the eager one is tested on the CPU (tests/training/test_mqvae_step.py).
"""

import statistics
from collections.abc import Iterable

import torch

from benchmarks.harness import Claim, Result, alternate, at_least, main, measured, not_measured, seconds
from benchmarks.mqvae_made import FULL, TRAINING, one_step, training_module_of

BATCH, STEPS, PAIRS = 8, 500, 10
FAST = TRAINING.replaced(precision="bf16", channels_last=True, compile=True)
PLAIN = TRAINING.replaced(precision="fp32", channels_last=False, compile=False)


def measure() -> Iterable[Result]:
    """One result."""
    claim = Claim(
        row=6,
        name="mqvae_training_gpu",
        title="MQ-VAE training step on a GPU, 256 px, f8",
        unit="s",
        better="lower",
        against="the same in fp32, eager",
        bar=at_least(3.0),
    )
    shapes = {"batch": BATCH, "pixels": 256, "channels": FULL.channels, "L": FULL.num_positions}
    if not torch.cuda.is_available():
        yield not_measured(claim, "no CUDA GPU here; run it where one is", shapes)
        return
    device = torch.device("cuda")
    image_BCHW = torch.rand(BATCH, 3, 256, 256) * 2 - 1
    fast, plain = (
        one_step(training_module_of(FULL, how, BATCH, device), image_BCHW.to(device)) for how in (FAST, PLAIN)
    )
    # reading the terms waits for the GPU
    pairs = alternate(lambda: seconds(fast), lambda: seconds(plain), PAIRS)
    losses = [(fast()["loss"], plain()["loss"]) for _ in range(STEPS)]
    gap = statistics.median(abs(mine - theirs) for mine, theirs in losses[-100:])
    scatter = statistics.stdev(theirs for _, theirs in losses[-100:])
    note = f"over the last 100 of {STEPS} steps the losses lie {gap:.3g} apart, where fp32's own scatter is {scatter:.3g}"
    yield measured(claim, pairs, shapes, note)


if __name__ == "__main__":
    main(measure)
