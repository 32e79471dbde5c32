"""One of two workers of row 16: trains two copies of a model in turn, one with each way of summing gradients, and times both.

python -m benchmarks.workers_made RANK STEPS MODEL OUT     with the store of the group beside OUT
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from torch import Tensor

from benchmarks.flat_sums import flat
from benchmarks.harness import ROOT
from benchmarks.mqvae_made import no_pictures
from models.mqvae import MQVAE
from models.stackformer import NetworkConfig, Stackformer, StackformerConfig
from settings.training import TrainingSettings
from training.loop.train import step_once
from training.loop.watch import Watch
from training.mqvae.module import ImageBatch, MQVAETrainingModule
from training.stackformer.batches import TokenBatch
from training.stackformer.module import StackformerTrainingModule
from workflow.params import load_params

WORKERS, WAYS = 2, ("overlapped", "flat")
CPU = torch.device("cpu")
DEMO = load_params(ROOT / "presets" / "shapes.yaml")
LARGE = NetworkConfig(512, 8, 6, 2, 0.0, "ascending")
"""28 million weights: over 1 Gb/s their gradients take about as long as a backward pass of 16 images on one core."""


@dataclass(frozen=True)
class Member:
    """A worker as the loop sees it."""

    rank: int
    size: int = WORKERS
    device: torch.device = CPU


@dataclass(frozen=True)
class Made:
    """A model in training, its settings, and the same micro-batch for each step."""

    training_module: Any
    settings: TrainingSettings
    batch: Any


def tokens(config: StackformerConfig, count: int) -> TokenBatch:
    """Random tokens."""
    codes_BN = torch.randint(config.num_codes, (count, config.num_kept))
    order_BL = torch.rand(count, config.num_positions).argsort(1)[:, : config.num_kept]
    return TokenBatch(codes_BN, order_BL.sort(1).values, torch.zeros(count, 1, dtype=torch.int64))


def stackformer(network: NetworkConfig, micro_batch: int, global_batch: int, optimizer: str) -> Made:
    """With weights of seed 0."""
    config = StackformerConfig(network, 128, 64, 32, "none", 1, 1)
    settings = DEMO.stackformer.replaced(
        model=network, micro_batch=micro_batch, global_batch=global_batch, optimizer=optimizer
    )
    torch.manual_seed(0)
    batch = tokens(config, micro_batch)
    return Made(StackformerTrainingModule(Stackformer(config), settings, batch, CPU), settings, batch)


def demo_mqvae() -> Made:
    """The demo's first stage, quantising from its first step on, without noise and restarts."""
    settings = DEMO.mqvae.replaced(quantize_start=1)
    torch.manual_seed(0)
    images = torch.rand(settings.micro_batch, 3, 32, 32) * 2 - 1
    module = MQVAETrainingModule(MQVAE(settings.model), settings, None, images[:1], CPU, no_pictures)
    return Made(module, settings, ImageBatch(images, 0, list(range(settings.micro_batch))))


def demo_stackformer() -> Made:
    """The demo's second stage."""
    demo = DEMO.stackformer
    return stackformer(demo.model, demo.micro_batch, demo.global_batch, demo.optimizer)


def large_stackformer(images: int) -> Made:
    """The model that is trained over a limited network: one micro-batch of `images` per worker."""
    return stackformer(LARGE, images, images * WORKERS, "adamw")


MODELS: dict[str, Callable[[], Made]] = {
    "demo_mqvae": demo_mqvae,
    "demo_stackformer": demo_stackformer,
    "large_stackformer_16": partial(large_stackformer, 16),
    "large_stackformer_60": partial(large_stackformer, 60),
}


def timed(made: Made, step: int, member: Member, watch: Watch) -> tuple[float, float, float]:
    """One step with all workers at its start: seconds, processor seconds, loss."""
    mine = made.settings.mine(member.rank, member.size)
    batches: Sequence[Any] = [rolled(made.batch, index) for index in mine]
    torch.distributed.barrier()
    began, busy = time.perf_counter(), time.process_time()
    terms = step_once(made.training_module, batches, step, made.settings, member, watch)
    return time.perf_counter() - began, time.process_time() - busy, float(terms["loss"])


def rolled(batch: Any, index: int) -> Any:
    """Micro-batch `index`, unlike the others."""
    if isinstance(batch, TokenBatch):
        return replace(batch, codes_BN=batch.codes_BN.roll(index, 1))
    return replace(batch, image_BCHW=batch.image_BCHW.roll(index, 3), first=index * len(batch.image_BCHW))


def main() -> None:
    """Rank 0 writes, for each way, its steps' figures."""
    rank, steps, model, out = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", f"file://{out.with_suffix('.store')}", rank=rank, world_size=WORKERS
    )
    member, sides = Member(rank), {way: MODELS[model]() for way in WAYS}
    flat(sides["flat"].training_module, WORKERS)
    figures: dict[str, list[tuple[float, float, float]]] = {way: [] for way in WAYS}
    for made in sides.values():
        made.training_module.connect(WORKERS)
    watches = {way: Watch(CPU, out.parent) for way in WAYS}
    for step in range(steps):
        for way, made in sides.items():
            figures[way].append(timed(made, step, member, watches[way]))
    weights: list[list[Tensor]] = [list(made.training_module.model.parameters()) for made in sides.values()]
    equal = all(torch.equal(a, b) for a, b in zip(*weights, strict=True))
    if rank == 0:
        out.write_text(json.dumps(figures | {"equal": equal}), encoding="utf-8")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
