"""Phase c: speed at the paper's sizes, each beside what the machine could do; what needs compiling comes last.

While phase b runs, other processes compile the same models (`warm`), so that here most of it comes from the cache on disk.

Shapes: B images, C = 3 channels, H and W pixels, N kept codes.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.checkpoint import checkpoint

from benchmarks.floors import Machine, decoding_floor, measure_machine
from benchmarks.gpu.phase import Item, Place
from benchmarks.gpu.timing import forget_peak, median_seconds, peak_gigabytes, wait
from benchmarks.mqvae_made import FULL, TRAINING, one_step, training_module_of
from benchmarks.row_02_sampling_gpu import CONFIG, SETTINGS
from benchmarks.row_03_training_gpu import TRAINING as STACKFORMER_TRAINING
from benchmarks.row_03_training_gpu import one_step as stackformer_step
from benchmarks.row_03_training_gpu import random_batch, training_flops
from models.base.precision import autocast
from models.mqvae import MQVAE, MQVAEConfig
from models.sampling import Sampler
from models.stackformer import NetworkConfig, Stackformer, StackformerConfig
from models.stackformer.transformer import Transformer
from settings.mqvae import MQVAESettings
from training.stackformer.module import StackformerTrainingModule

F16 = replace(FULL, channel_multipliers=(1, 1, 2, 2, 4), code_dim=256)
EAGER_BF16 = TRAINING.replaced(precision="bf16", channels_last=False)
KERNELS = 25
"""Kernels that a profile names."""
BARS = {
    "sampling_batch_1": ("times_the_floor", 2.0, "at most"),
    "sampling_batch_64": ("times_the_floor", 1.7, "at most"),
    "stackformer_step_compiled": ("share_of_matrix_rate", 0.5, "at least"),
    "mqvae_f8_compiled": ("times_as_fast_as_fp32_eager", 3.0, "at least"),
    "mqvae_f16_compiled": ("times_as_fast_as_fp32_eager", 3.0, "at least"),
}


def items(place: Place) -> list[Item]:
    """In order: what needs no compiling, then what does; a rehearsal goes without f16, which is f8's code."""
    found = [
        Item("sampling_batch_64", partial(sampling, batch=64), 45),
        Item("sampling_batch_1", partial(sampling, batch=1), 30),
        Item("tokenise", tokenise, 20),
        Item("stackformer_step_eager", partial(stackformer, compiled=False, checkpointed=False), 25),
        Item("stackformer_step_checkpointed", partial(stackformer, compiled=False, checkpointed=True), 25),
        Item("optimisers_at_the_papers_size", optimisers, 30),
        Item("mqvae_f8_eager", partial(mqvae, config=FULL, compiled=False), 25),
        Item("mqvae_f16_eager", partial(mqvae, config=F16, compiled=False), 25),
        Item("tokenise_compiled", tokenise_compiled, 60),
        Item("stackformer_step_compiled", partial(stackformer, compiled=True, checkpointed=False), 75),
        Item("mqvae_f8_compiled", partial(mqvae, config=FULL, compiled=True), 180),
        Item("mqvae_f16_compiled", partial(mqvae, config=F16, compiled=True), 180),
        Item("profile_of_sampling", profile_of_sampling, 20),
        Item("profile_of_training", profile_of_training, 20),
    ]
    return [item for item in found if not (place.tiny and "f16" in item.name)]


def warm(place: Place, number: int) -> None:
    """Compile one of what will be measured; nothing is kept but the compiler's cache."""
    WARM[number](place, times=1)


def stackformer_config(place: Place) -> StackformerConfig:
    """The paper's 18 + 6 layers at N = 768."""
    if not place.tiny:
        return CONFIG
    return replace(
        CONFIG,
        network=NetworkConfig(32, 2, 2, 1, 0.0, "ascending"),
        num_positions=16,
        num_kept=12,
        num_codes=32,
    )


def mqvae_config(place: Place, config: MQVAEConfig) -> MQVAEConfig:
    """The paper's at 256 pixels."""
    return (
        replace(config, image_size=32, channels=8, code_dim=8, num_codes=16, res_blocks=1, demask_blocks=2)
        if place.tiny
        else config
    )


@cache
def machine_of(place: Place) -> Machine:
    """Measured once per process: other rates than a minute ago would make other shares."""
    return measure_machine(torch.device(place.device), torch.bfloat16, 256 if place.tiny else 8192)


def barred(name: str, found: dict[str, Any]) -> dict[str, Any]:
    """With the bar that an item has, and whether it was reached; a missed bar is a result, no failure."""
    if name not in BARS:
        return found
    key, limit, reach = BARS[name]
    met = found[key] <= limit if reach == "at most" else found[key] >= limit
    return found | {"bar": f"{key} {reach} {limit:g}", "met": met}


@torch.no_grad()
def sampling(place: Place, batch: int) -> dict[str, Any]:
    """A whole batch, bf16, against weights once per step and keys and values so far over the copy bandwidth."""
    device, config = torch.device(place.device), stackformer_config(place)
    machine = machine_of(place)
    forget_peak(device)
    torch.manual_seed(0)
    with device:
        model = Stackformer(config).eval().to(torch.bfloat16)
    sampler = Sampler(model, batch, SETTINGS)
    condition = torch.zeros(batch, 1, dtype=torch.int64)
    began = time.perf_counter()
    sampler(condition, range(batch))
    wait(device)
    first = time.perf_counter() - began
    taken = median_seconds(lambda: sampler(condition, range(batch)), device, 3, warm=0)
    floor = decoding_floor(config, batch, 2, machine)
    found = {
        "seconds_a_batch": taken,
        "seconds_of_the_first": first,
        "microseconds_a_step": taken / config.num_kept * 1e6,
        "images_per_second": batch / taken,
        "floor_seconds": floor,
        "times_the_floor": taken / floor,
        "captured": sampler.captures,
        "peak_gigabytes": peak_gigabytes(device),
        "machine": machine.text(),
    }
    return barred(f"sampling_batch_{batch}", found)


@torch.no_grad()
def tokenise(place: Place) -> dict[str, Any]:
    """The encoder, masker and quantiser on ready images, in fp32 and under autocast, both memory formats."""
    device, config = torch.device(place.device), mqvae_config(place, FULL)
    batch = 4 if place.tiny else 64
    model = MQVAE(config).eval().to(device)
    images = torch.rand(batch, 3, config.image_size, config.image_size, device=device) * 2 - 1
    found: dict[str, Any] = {"batch": batch}

    def work(precision: Any, form: Any) -> None:
        with autocast(precision, device):
            model.tokenize(images.contiguous(memory_format=form))

    for name, form in (("contiguous", torch.contiguous_format), ("channels_last", torch.channels_last)):
        model.to(memory_format=form)  # type: ignore[call-overload]  # its overloads lack the format
        for precision in ("fp32", "bf16"):
            forget_peak(device)
            found[f"{precision}_{name}_images_per_second"] = batch / median_seconds(
                partial(work, precision, form), device, 3
            )
            found[f"{precision}_{name}_peak_gigabytes"] = peak_gigabytes(device)
    return found


@torch.no_grad()
def tokenise_compiled(place: Place) -> dict[str, Any]:
    """The same through torch.compile, which runs GroupNorm, SiLU and the casts of autocast in one pass over each tensor."""
    device, config = torch.device(place.device), mqvae_config(place, FULL)
    batch = 4 if place.tiny else 64
    found: dict[str, Any] = {"batch": batch}
    for name, form in (("contiguous", torch.contiguous_format), ("channels_last", torch.channels_last)):
        forget_peak(device)
        model = MQVAE(config).eval().to(device)
        model.to(memory_format=form)  # type: ignore[call-overload]  # its overloads lack the format
        images = torch.rand(batch, 3, config.image_size, config.image_size, device=device) * 2 - 1
        images = images.contiguous(memory_format=form)
        run = model.tokenize if place.tiny else torch.compile(model.tokenize)
        with autocast("bf16", device):
            taken = median_seconds(partial(run, images), device, 3)
        found[f"bf16_{name}_images_per_second"] = batch / taken
        found[f"bf16_{name}_peak_gigabytes"] = peak_gigabytes(device)
    return found


def checkpointed_blocks(model: Stackformer) -> None:
    """Let each block keep its input alone, and compute the rest again on the way back."""
    for part in model.modules():
        if isinstance(part, Transformer):
            for block in part.blocks:
                block.forward = partial(checkpoint, block.forward, use_reentrant=False)


def stackformer_training_module(
    place: Place, compiled: bool, checkpointed: bool
) -> tuple[StackformerTrainingModule, Callable[[], None]]:
    """A training step in bf16, and whose it is."""
    device, config = torch.device(place.device), stackformer_config(place)
    torch.manual_seed(0)
    batch = random_batch(config, 2 if place.tiny else 16)
    with device:  # 307 million random numbers take a CPU seconds
        model = Stackformer(config)
    if checkpointed:
        checkpointed_blocks(model)
    training = STACKFORMER_TRAINING.replaced(compile=compiled and not place.tiny)
    training_module = StackformerTrainingModule(
        model, training.replaced(micro_batch=len(batch)), batch, device
    )
    return training_module, partial(stackformer_step, training_module, batch)


def stackformer(place: Place, compiled: bool, checkpointed: bool, times: int = 10) -> dict[str, Any]:
    """Its time, as a share of the measured matrix rate."""
    device, config = torch.device(place.device), stackformer_config(place)
    rate = machine_of(place).flops
    forget_peak(device)
    training_module, step = stackformer_training_module(place, compiled, checkpointed)
    began = time.perf_counter()
    step()
    wait(device)
    first = time.perf_counter() - began
    taken = median_seconds(step, device, 2 if place.tiny else times)
    batch = len(training_module.held_out)
    found = {
        "batch": batch,
        "seconds_a_step": taken,
        "seconds_of_the_first": first,
        "images_per_second": batch / taken,
        "share_of_matrix_rate": training_flops(config, batch) / taken / rate,
        "matrix_teraflops": rate / 1e12,
        "peak_gigabytes": peak_gigabytes(device),
    }
    return barred("stackformer_step_compiled" if compiled else "", found)


def optimisers(place: Place) -> dict[str, Any]:
    """Time after the backward pass (norm, clipping, optimiser, EMA) compared with the eager step above, per optimiser."""
    device, config = torch.device(place.device), stackformer_config(place)
    found: dict[str, Any] = {}
    for kind in ("adamw", "muon"):
        forget_peak(device)
        with device:
            model = Stackformer(config)
        training = STACKFORMER_TRAINING.replaced(optimizer=kind, compile=False)
        training_module = StackformerTrainingModule(model, training, random_batch(config, 2), device)
        for weight in model.parameters():
            weight.grad = torch.randn_like(weight)
        found[f"{kind}_seconds"] = median_seconds(
            partial(training_module.finish_step, 0, lambda tensor: tensor), device, 5
        )
        found[f"{kind}_peak_gigabytes"] = peak_gigabytes(device)
        del training_module, model
    return found


def mqvae(place: Place, config: MQVAEConfig, compiled: bool, times: int = 8) -> dict[str, Any]:
    """A step with its discriminator: fp32 eager beside bf16, compiled or not."""
    device, config = torch.device(place.device), mqvae_config(place, config)
    batch = 2 if place.tiny else 8
    ways = {"fp32_eager": TRAINING.replaced(channels_last=False), "bf16": EAGER_BF16}
    if compiled:
        ways["bf16"] = TRAINING.replaced(precision="bf16", channels_last=True, compile=not place.tiny)
    else:
        ways["bf16_channels_last"] = EAGER_BF16.replaced(channels_last=True)
    found: dict[str, Any] = {"batch": batch, "grid": config.grid}
    for name, training in ways.items():
        found |= {
            f"{name}_{key}": value
            for key, value in mqvae_seconds(place, config, training, batch, device, times).items()
        }
    found["times_as_fast_as_fp32_eager"] = found["fp32_eager_seconds"] / found["bf16_seconds"]
    return barred(f"mqvae_f{config.downsampling}_compiled" if compiled else "", found)


def mqvae_seconds(
    place: Place, config: MQVAEConfig, training: MQVAESettings, batch: int, device: torch.device, times: int
) -> dict[str, Any]:
    """One way's seconds per step, and peak memory."""
    forget_peak(device)
    images = torch.rand(batch, 3, config.image_size, config.image_size) * 2 - 1
    training_module = training_module_of(config, training, batch, device)
    taken = median_seconds(
        one_step(training_module, images.to(device)), device, 2 if place.tiny else times, warm=3
    )
    return {"seconds": taken, "images_per_second": batch / taken, "peak_gigabytes": peak_gigabytes(device)}


def kernels(work: Callable[[], object], device: torch.device) -> dict[str, Any]:
    """The kernels (operations on a CPU) that take most of the device's time."""
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    with profile(activities=kinds) as seen:
        work()
        wait(device)
    on_gpu = device.type == "cuda"
    rows = [
        (float(row.self_device_time_total if on_gpu else row.self_cpu_time_total), row.count, row.key)
        for row in seen.key_averages()
    ]
    rows.sort(reverse=True)
    total = sum(taken for taken, _, _ in rows)
    named = [
        f"{taken / max(total, 1e-9):6.1%} {count:6d} × {key[:90]}" for taken, count, key in rows[:KERNELS]
    ]
    return {"milliseconds": total / 1e3, "kernels": named}


@torch.no_grad()
def profile_of_sampling(place: Place) -> dict[str, Any]:
    """Profile twenty steps at batch 1 in the middle of a sequence, launched one by one."""
    device, config = torch.device(place.device), stackformer_config(place)
    with device:
        model = Stackformer(config).eval().to(torch.bfloat16)
    sampler = Sampler(model, 1, SETTINGS, bucket=64, capture=False)
    sampler.start(torch.zeros(1, 1, dtype=torch.int64), [0])
    steps = min(20, (config.num_kept - 1) // 2)
    for step in range(1, 1 + steps):
        sampler.go_on(step)
    return kernels(lambda: [sampler.go_on(step) for step in range(1 + steps, 1 + 2 * steps)], device) | {
        "steps": steps
    }


def profile_of_training(place: Place) -> dict[str, Any]:
    """Profile an eager step of the Stackformer and one of the MQ-VAE at f8."""
    device, config = torch.device(place.device), mqvae_config(place, FULL)
    _, step = stackformer_training_module(place, compiled=False, checkpointed=False)
    step()
    found: dict[str, Any] = {"stackformer": kernels(step, device)}
    batch = 2 if place.tiny else 8
    images = (torch.rand(batch, 3, config.image_size, config.image_size) * 2 - 1).to(device)
    other = one_step(training_module_of(config, EAGER_BF16, batch, device), images)
    other()
    return found | {"mqvae": kernels(other, device)}


WARM: tuple[Callable[..., dict[str, Any]], ...] = (
    partial(stackformer, compiled=True, checkpointed=False),
    partial(mqvae, config=FULL, compiled=True),
    partial(mqvae, config=F16, compiled=True),
)
"""The parts measured compiled."""
