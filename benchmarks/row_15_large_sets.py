"""Row 15: sets that outgrow memory. 400 M images opened, drawn and read; a training at ImageNet's number of images.

The large set is made here, 15 GB in the temporary folder (TMPDIR names another), and removed afterwards. Seconds are of the
processor. Memory is the proportional set size of a worker, or of a worker and its loaders together (`benchmarks.large_memory`).
"""

import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.harness import Claim, Pairs, Result, at_most, main, measured, not_measured
from benchmarks.large_memory import MIB, pss, watched
from benchmarks.large_sets import make_large_set
from workspace.exact.order import DataOrder

TARS, PER_TAR, BATCH, MICRO_BATCHES, GROUP = 80_000, 5_000, 256, 16, 16
DRAWS, WHOLE_GROUPS, READ, COMPARED = 2_000, 50, 512, 200
DISK = 20 << 30
SMALL_TAR, FEW, MANY = 1_280, 12_800, 1_280_000
STEPS, LOADERS = 160, 4


def measure() -> Iterable[Result]:
    """The large set, then the two trainings."""
    with tempfile.TemporaryDirectory() as name:
        if shutil.disk_usage(name).free < DISK:
            note = f"needs {DISK >> 30} GB in {tempfile.gettempdir()}; TMPDIR names another folder"
            yield not_measured(_claim("large_set_open", "opening 400 M images", "s", 5.0), note, {})
        else:
            yield from large(make_large_set(Path(name) / "shards", TARS, PER_TAR))
    yield training()


def _claim(name: str, title: str, unit: str, bar: float) -> Claim:
    return Claim(15, name, title, unit, "lower", "", at_most(bar))


def large(folder: Path) -> Iterable[Result]:
    """Figures of a worker, a process of its own, with the large set."""
    found, highest, _ = watched(worker, folder)
    shapes = {"images": TARS * PER_TAR, "tars": TARS, "batch": BATCH, "group": GROUP}
    drawn = (
        f"processor time, median of {DRAWS:,} random steps of an epoch; highest {found['worst']:.2f} ms; "
        f"the first of another epoch {found['epoch']:.1f} ms"
    )
    checked = (
        f"PSS with Python, numpy and torch, after opening; the highest until the end {highest / MIB:,.0f} MiB: "
        f"{WHOLE_GROUPS} groups drawn whole, {READ:,} random images read"
    )
    for name, title, unit, bar, note in (
        (
            "large_set_open",
            "opening 400 M images in 80,000 tars",
            "s",
            5.0,
            "processor time: manifest, index, order",
        ),
        ("large_set_memory", "memory of a worker that opened them", "MiB", 1024.0, checked),
        ("large_set_draw", "which samples a step has, 400 M images", "ms", 1.0, drawn),
    ):
        yield measured(_claim(name, title, unit, bar), Pairs((found[name],), ()), shapes, note)


def worker(folder: Path) -> Mapping[str, float]:
    """Open, draw, check and read; the figures."""
    from shards.images import ImageShards

    began = time.process_time()
    index = ImageShards.open(folder).index("train")
    order = DataOrder(0, index.shard_sizes, GROUP)
    opened, memory = time.process_time() - began, pss(os.getpid()) / MIB
    generator = np.random.default_rng(0)
    steps = generator.integers(0, TARS * PER_TAR // BATCH, DRAWS).tolist()
    _drawn(order, steps[0])
    times = [_drawn(order, step) for step in steps]
    epoch = _drawn(order, TARS * PER_TAR // BATCH + 1)
    check_epoch(order, generator)
    check_workers(steps[:COMPARED])
    for number in generator.integers(0, TARS * PER_TAR, READ).tolist():
        assert index.read(number).key == f"{number:07d}"
    figures = {
        "large_set_open": opened,
        "large_set_memory": memory,
        "large_set_draw": float(np.median(times)),
    }
    return figures | {"worst": max(times), "epoch": epoch}


def _drawn(order: DataOrder, step: int) -> float:
    """Milliseconds of the processor."""
    began = time.process_time()
    order.batch(step, BATCH)
    return 1000 * (time.process_time() - began)


def check_epoch(order: DataOrder, generator: np.random.Generator) -> None:
    """An epoch has each tar once, and of some groups each image once and nothing else."""
    size = GROUP * PER_TAR
    tars = [number for place in range(0, order.total, size) for number in order.group_at(0, place)]
    assert sorted(tars) == list(range(TARS))
    for place in (size * generator.integers(0, TARS // GROUP, WHOLE_GROUPS)).tolist():
        held = np.sort(order.group_at(0, place))
        images = (held[:, None] * PER_TAR + np.arange(PER_TAR)).ravel()
        assert np.array_equal(np.sort(order.at(0, place, size)), images)


def check_workers(steps: list[int]) -> None:
    """Who takes part changes nothing, nor where a run was resumed: each group of workers here begins at its own step."""
    sizes = (PER_TAR,) * TARS
    orders = {workers: DataOrder(0, sizes, GROUP) for workers in (1, 2, 4, 8)}
    micro = BATCH // MICRO_BATCHES
    for step in steps:
        seen = []
        for workers, order in orders.items():
            ranks = [range(rank, MICRO_BATCHES, workers) for rank in range(workers)]
            drawn = {
                number: order.batch(step, BATCH)[number * micro : (number + 1) * micro]
                for rank in ranks
                for number in rank
            }
            seen.append([sample for number in range(MICRO_BATCHES) for sample in drawn[number]])
        assert all(samples == seen[0] for samples in seen)


def training() -> Result:
    """Memory of a training worker of MQ-VAE and its loaders at ImageNet's number of images over that at a hundredth."""
    peaks = []
    for images in (FEW, MANY):
        with tempfile.TemporaryDirectory() as name:
            folder = make_large_set(Path(name) / "shards", images // SMALL_TAR, SMALL_TAR)
            _, highest, processes = watched(train_some, folder, Path(name))
            assert processes >= 1 + LOADERS, processes
            peaks.append(highest / MIB)
    few, many = peaks
    shapes = {"images": FEW, "MiB": round(few, 1), "images_large": MANY, "MiB_large": round(many, 1)}
    shapes |= {"loaders": LOADERS, "steps": STEPS, "batch": BATCH, "pixels": 8}
    claim = _claim(
        "large_set_training", "memory of a training worker and 4 loaders, 100× the images", "×", 1.1
    )
    note = "highest PSS of the worker and its loader processes together, over the whole training"
    return measured(claim, Pairs((many / few,), ()), shapes, note)


def train_some(folder: Path, root: Path) -> None:
    """A small MQ-VAE trained by the worker's own function."""
    from benchmarks.mqvae_made import SMALL, TRAINING
    from cluster.training import WorkerGroup
    from stages.train_mqvae import WorkerArgs, train_worker
    from training.loop.train import TrainingFolder

    torch.set_num_threads(1)
    model = replace(
        SMALL, image_size=8, channels=8, channel_multipliers=(1,), attention=False, code_dim=8, num_codes=16,
        scorer_width=8, demask_blocks=1, patch_size=2,
    )  # fmt: skip
    settings = TRAINING.replaced(
        model=model, steps=STEPS, global_batch=BATCH, micro_batch=BATCH // 4, validate_images=64,
        loss=replace(TRAINING.loss, adversarial=0.0, perceptual=0.0), checkpoint_every=STEPS, validate_every=STEPS,
    )  # fmt: skip
    (root / "out").mkdir()
    made = TrainingFolder(root / "work", root / "metrics", root / "progress.json")
    group = WorkerGroup(0, 1, torch.device("cpu"))
    train_worker(WorkerArgs(settings, folder, LOADERS, root / "out", made), group)


if __name__ == "__main__":
    main(measure)
