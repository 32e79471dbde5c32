"""The training items of phase b, with steps as in the loop: optimisers, waiting, non-finite gradients, repeatability.

Every item takes its steps through `training.loop.train.step_once`, the loop's own, with both models and both kinds of optimiser.
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.gpu.phase import Place
from benchmarks.gpu.timing import median_seconds
from benchmarks.mqvae_made import TRAINING, training_module_of
from benchmarks.row_03_training_gpu import TRAINING as STACKFORMER_TRAINING
from benchmarks.row_03_training_gpu import random_batch
from cluster.devices import reproducible
from models.base.precision import Precision
from models.mqvae import MQVAEConfig
from models.stackformer import Stackformer, StackformerConfig
from settings.mqvae import ExplorationConfig
from training.loop.optimizers import iterated, orthogonalized
from training.loop.train import step_once
from training.loop.watch import Watch
from training.mqvae.module import ImageBatch
from training.stackformer.module import StackformerTrainingModule
from workspace.errors import UserError

BATCH, STEPS = 4, 3


EVERYTHING = replace(TRAINING.model.quantizer, kind="ema", restart_every=2, restart_below=0.1)
"""A codebook that moves, and restarts its codes."""
WAYS = {
    "fp32": (orthogonalized, torch.float32, False),
    "tf32": (orthogonalized, torch.float32, True),
    "bf16": (orthogonalized, torch.bfloat16, False),
    "tf32_iterated": (iterated, torch.float32, True),
    "bf16_iterated": (iterated, torch.bfloat16, False),
}
"""Muon's direction: by which function, from which precision, with products rounded to TF32 or not."""


@dataclass(frozen=True)
class Alone:
    """A group of one worker (`training.loop.train.Workers`)."""

    device: torch.device
    rank: int = 0
    size: int = 1


@dataclass(frozen=True)
class Stepping:
    """A training that takes one step at a time.

    Attributes:
        training_module: the model in training.
        watch: looks at its numbers.
        step: takes step i.
    """

    training_module: Any
    watch: Watch
    step: Callable[[int], dict[str, Any]]

    def weights(self) -> dict[str, Tensor]:
        """Copies of all weights and of the codebook, by name."""
        return {
            name: value.detach().clone() for name, value in self.training_module.model.state_dict().items()
        }


def of_mqvae(
    config: MQVAEConfig, optimizer: str, device: torch.device, precision: Precision = "fp32"
) -> Stepping:
    """With a discriminator, exploration, an EMA codebook and restarts; images depend only on the step."""
    config = replace(config, quantizer=EVERYTHING)
    settings = TRAINING.replaced(
        optimizer=optimizer,
        learning_rate=1e-3,
        precision=precision,
        channels_last="auto",
        max_grad_norm=1.0,
        quantize_start=1,
        exploration=ExplorationConfig(noise=1.0, anneal_start=STEPS, anneal_end=STEPS, freeze_start=None),
    )
    training_module = training_module_of(config, settings, BATCH, device)

    def step(number: int) -> dict[str, Any]:
        random = torch.Generator().manual_seed(number)
        images = torch.rand(BATCH, 3, config.image_size, config.image_size, generator=random) * 2 - 1
        return step_once(
            training_module,
            [ImageBatch(images, 0, range(BATCH))],
            number,
            training_module.settings,
            alone,
            watch,
        )

    watch, alone = Watch(device, Path()), Alone(device)
    return Stepping(training_module, watch, step)


def of_stackformer(
    config: StackformerConfig, optimizer: str, device: torch.device, precision: Precision = "fp32"
) -> Stepping:
    """Tokens depend on nothing, dropout on the step."""
    torch.manual_seed(0)
    model, batch = Stackformer(config), random_batch(config, BATCH)
    settings = STACKFORMER_TRAINING.replaced(
        optimizer=optimizer, precision=precision, compile=False, micro_batch=BATCH, global_batch=BATCH
    )
    training_module = StackformerTrainingModule(model, settings, batch, device)
    watch, alone = Watch(device, Path()), Alone(device)
    return Stepping(
        training_module,
        watch,
        lambda number: step_once(training_module, [batch], number, settings, alone, watch),
    )


def all_kinds(
    configs: tuple[MQVAEConfig, StackformerConfig], device: torch.device, precision: Precision = "fp32"
) -> Iterator[tuple[str, Stepping]]:
    """Both models with both kinds of optimiser, from the same weights each time."""
    for optimizer in ("adamw", "muon"):
        yield f"mqvae_{optimizer}", of_mqvae(configs[0], optimizer, device, precision)
        yield f"stackformer_{optimizer}", of_stackformer(configs[1], optimizer, device, precision)


def moved(stepping: Stepping) -> Tensor:
    """How far a few steps moved the learned weights, all in one vector, float64 on the CPU."""
    learned = dict(stepping.training_module.model.named_parameters())
    before = {name: weight.detach().clone() for name, weight in learned.items()}
    for number in range(STEPS):
        stepping.step(number)
    return torch.cat(
        [(learned[name] - before[name]).detach().double().cpu().flatten() for name in sorted(learned)]
    )


def as_on_the_cpu(place: Place, configs: tuple[MQVAEConfig, StackformerConfig]) -> dict[str, Any]:
    """Steps of either optimiser move weights as they do on the CPU. Adam's first steps are signs of gradients, which rounding
    turns where a gradient is next to nothing: hence a cosine, and a wide bound."""
    found: dict[str, float] = {}
    here = all_kinds(configs, torch.device("cpu"))
    for (name, mine), (_, theirs) in zip(all_kinds(configs, torch.device(place.device)), here, strict=True):
        cosine = torch.nn.functional.cosine_similarity(moved(mine), moved(theirs), dim=0)
        found[f"{name}_one_minus_cosine"] = 1 - float(cosine)
    return found | {"bound": 0.03, "ok": all(value <= 0.03 for value in found.values())}


def bad_gradients(place: Place, configs: tuple[MQVAEConfig, StackformerConfig]) -> dict[str, Any]:
    """A gradient that is not finite moves nothing, at its step and after it, and the host learns which step it was."""
    found: dict[str, Any] = {}
    for name, stepping in all_kinds(configs, torch.device(place.device)):
        stepping.step(0)
        before, said = stepping.weights(), ""
        with InfiniteGradient(stepping.training_module.model):
            said = message_of(partial(stepping.step, 1))
        said = said or message_of(partial(step_and_look, stepping, 2))
        same = all(torch.equal(value, before[key]) for key, value in stepping.weights().items())
        found[name] = {"nothing_moved": same, "said": said}
    ok = all(value["nothing_moved"] and value["said"].startswith("step 2:") for value in found.values())
    return found | {"ok": ok}


class InfiniteGradient:
    """Within the block one gradient of a model is infinite."""

    def __init__(self, model: nn.Module) -> None:
        self.weight = next(weight for weight in model.parameters() if weight.ndim >= 2)

    def __enter__(self) -> None:
        self.hook = self.weight.register_hook(lambda gradient: torch.full_like(gradient, float("inf")))

    def __exit__(self, *problem: object) -> None:
        self.hook.remove()


def steps_of(stepping: Stepping) -> None:
    """The third step and the fourth."""
    for number in (2, 3):
        stepping.step(number)


def step_and_look(stepping: Stepping, number: int) -> None:
    """A step, and the look that the loop takes before it writes a row."""
    stepping.step(number)
    stepping.watch.look()


def message_of(work: Callable[[], object]) -> str:
    """The message of its UserError, or ""."""
    try:
        work()
    except UserError as error:
        return str(error)
    return ""


def waiting(place: Place, configs: tuple[MQVAEConfig, StackformerConfig]) -> dict[str, Any]:
    """The places in a step where the host waits for the GPU, after two warm-up steps."""
    found: dict[str, Any] = {}
    if place.device != "cuda":
        return {"left_out": "a CPU is never waited for"}
    for precision in ("fp32", "bf16"):
        for name, stepping in all_kinds(configs, torch.device(place.device), precision):
            for number in range(2):
                stepping.step(number)
            found[f"{name}_{precision}"] = waits_of(partial(steps_of, stepping))
    return found | {"ok": not any(found.values())}


def waits_of(work: Callable[[], object]) -> list[str]:
    """File and line of each call that waited."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            work()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sorted({f"{seen_.filename}:{seen_.lineno}: {str(seen_.message)[:80]}" for seen_ in seen})


def repeatable(place: Place, configs: tuple[MQVAEConfig, StackformerConfig]) -> dict[str, Any]:
    """`deterministic: true` gives the same bits twice; whether they come out alike without it is reported, not judged."""
    found: dict[str, Any] = {}
    for wanted in (True,) if place.tiny else (True, False):
        with reproducible(wanted), warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            pairs = [
                (name, bits_of(first), bits_of(second))
                for (name, first), (_, second) in zip(
                    all_kinds(configs, torch.device(place.device)),
                    all_kinds(configs, torch.device(place.device)),
                    strict=True,
                )
            ]
        said = sorted(
            {str(warning.message)[:160] for warning in seen if "determinis" in str(warning.message)}
        )
        found["deterministic" if wanted else "default"] = {
            "equal_bits": {
                name: all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
                for name, one, two in pairs
            },
            "warnings": said,
        }
    return found | {"ok": all(found["deterministic"]["equal_bits"].values())}


def bits_of(stepping: Stepping) -> list[Tensor]:
    """Everything that the model has learned after a few steps."""
    for number in range(STEPS):
        stepping.step(number)
    return list(stepping.weights().values())


@torch.no_grad()
def muon(place: Place) -> dict[str, Any]:
    """Muon's orthogonalisation at the paper's width, by the precision of its products: its time, and the singular values.

    Matrices as gradients are: singular values from 1 down to 1e-3, and the same in random order.
    """
    device = torch.device(place.device)
    size, count = (32, 2) if place.tiny else (1024, 24)
    torch.manual_seed(0)
    left, right = (torch.linalg.qr(torch.randn(2, size, size, device=device)).Q for _ in range(2))
    matrix_KOI = (left * torch.logspace(0, -3, size, device=device)) @ right
    many_KOI = torch.randn(count, size, 4 * size, device=device)
    found: dict[str, Any] = {"matrices": list(many_KOI.shape)}
    before = torch.backends.cuda.matmul.allow_tf32
    for name, (way, dtype, tf32) in WAYS.items():
        torch.backends.cuda.matmul.allow_tf32 = tf32
        try:
            made_KOI = way(matrix_KOI.to(dtype), 5).float()
            taken = median_seconds(partial(way, many_KOI.to(dtype), 5), device, 5)
        finally:
            torch.backends.cuda.matmul.allow_tf32 = before
        values = torch.linalg.svdvals(made_KOI.double())
        found[name] = {
            "milliseconds": 1e3 * taken,
            "smallest": float(values.min()),
            "largest": float(values.max()),
            "from_the_polar_factor": float((made_KOI - left @ right).norm() / (left @ right).norm()),
        }
    return found
