"""Row 7: what masker and de-masker add to a training step of the MQ-VAE, 64 px, f8 and f4.

The floor is their share of the step's arithmetic, counted by torch's own table. That the de-mask attention's memory is
linear in L is tested (tests/models/test_demask_memory.py).
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from benchmarks.harness import Claim, Floor, Pairs, Result, alternate, at_most, main, measured, seconds
from benchmarks.mqvae_made import SIZES, TRAINING, one_step, training_module_of
from models.mqvae import MQVAEConfig
from training.mqvae.module import MQVAETrainingModule

BATCH, THREADS = 16, 2
PAIRS = {"f8": 6, "f4": 3}
MOST = 1.3


def measure() -> Iterable[Result]:
    """f8, then f4, whose bar is none."""
    torch.set_num_threads(THREADS)
    for name, config in SIZES.items():
        yield measure_size(name, config)


def measure_size(name: str, config: MQVAEConfig) -> Result:
    """Per cent of the step."""
    without = replace(config, mask="none", mask_ratio=0.0, demask="none")
    image_BCHW = torch.rand(BATCH, 3, config.image_size, config.image_size) * 2 - 1
    training_modules = [
        training_module_of(part, TRAINING, BATCH, torch.device("cpu")) for part in (config, without)
    ]
    floor = share(*(flops(training_module, image_BCHW) for training_module in training_modules))
    claim = Claim(
        row=7,
        name=f"masking_share_{name}",
        title=f"masker and de-masker, share of an MQ-VAE training step, 64 px, {name}",
        unit="% of the step",
        better="lower",
        against="",
        bar=at_most(round(MOST * floor, 2)) if name == "f8" else None,
    )
    steps = [one_step(training_module, image_BCHW) for training_module in training_modules]
    took = alternate(lambda: seconds(steps[0]), lambda: seconds(steps[1]), PAIRS[name])
    shares = tuple(share(*pair) for pair in zip(took.ours, took.reference, strict=True))
    shapes = {"batch": BATCH, "L": config.num_positions, "H": config.demask_blocks, "n_z": config.code_dim}
    note = f"the bar is {MOST} times their share of the arithmetic"
    how = "their share of the step's floating-point operations, discriminator included"
    return measured(
        claim, Pairs(shares, ()), shapes | {"threads": THREADS}, note, Floor(round(floor, 2), how)
    )


def share(whole: float, without: float) -> float:
    """Per cent of the whole."""
    return 100 * (whole - without) / whole


class Counter(TorchDispatchMode):
    """Sums the operations of what runs within, by torch's own table (its `FlopCounterMode` refuses gradients at a leaf)."""

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run and count."""
        made = func(*args, **(kwargs or {}))
        count = flop_registry.get(func.overloadpacket)
        self.flops += count(*args, **(kwargs or {}), out_val=made) if count is not None else 0
        return made


def flops(training_module: MQVAETrainingModule, image_BCHW: torch.Tensor) -> float:
    """Seconds of one step, forward and backward."""
    with Counter() as counter:
        one_step(training_module, image_BCHW)()
    return counter.flops


if __name__ == "__main__":
    main(measure)
