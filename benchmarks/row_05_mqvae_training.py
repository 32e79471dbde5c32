"""Row 5: a training step of the MQ-VAE, 64 px, f8 and f4, batch 16, with its discriminator, on a CPU.

Against VQGAN's published step (benchmarks/literal_mqvae.py): two generator passes, swish written out, an L × L attention matrix.
Ours averages its weights too, which the published step does not.
"""

import copy
from collections.abc import Iterable

import torch

from benchmarks.harness import Claim, Result, alternate, at_least, main, measured, seconds
from benchmarks.literal_mqvae import LiteralStep
from benchmarks.mqvae_made import LOSS, RATE, SIZES, TRAINING, one_step, training_module_of

BATCH, THREADS, PAIRS = 16, 2, 4
BARS = {"f8": 1.3, "f4": 1.4}


def measure() -> Iterable[Result]:
    """f8, then f4."""
    torch.set_num_threads(THREADS)
    for name in SIZES:
        yield measure_size(name)


def measure_size(name: str) -> Result:
    """Seconds per step."""
    config = SIZES[name]
    claim = Claim(
        row=5,
        name=f"mqvae_training_{name}",
        title=f"MQ-VAE training step, 64 px, {name}, batch {BATCH}, with its discriminator",
        unit="s",
        better="lower",
        against="the published step: two generator passes, swish, attention matrix",
        bar=at_least(BARS[name]),
    )
    training_module = training_module_of(config, TRAINING, BATCH, torch.device("cpu"))
    plain = {"memory_format": torch.contiguous_format}
    model, discriminator = (
        copy.deepcopy(part).to(**plain) for part in (training_module.model, training_module.discriminator)
    )
    literal = LiteralStep(model, discriminator, LOSS, RATE)
    image_BCHW = torch.rand(BATCH, 3, config.image_size, config.image_size) * 2 - 1
    step = one_step(training_module, image_BCHW)
    pairs = alternate(lambda: seconds(step), lambda: seconds(lambda: literal(image_BCHW)), PAIRS)
    shapes = {"pixels": 64, "channels": config.channels, "L": config.num_positions, "N": config.num_kept}
    note = "three quarters of our step are convolutions, at 73 to 105 GFLOP/s a core where a large one alone reaches 110"
    return measured(claim, pairs, shapes | {"batch": BATCH, "threads": THREADS}, note)


if __name__ == "__main__":
    main(measure)
