"""What goes wrong in the middle of a training or a fan-out, and machines with fewer GPUs than are asked for."""

import math
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from cluster import session
from cluster import training as group_training
from cluster.shard_map import ShardJob, map_shards
from tests.field.table import Field, Row
from tests.hostile.table import plain
from tests.training import test_mqvae_training as images
from tests.training.test_watch import on_nothing, spoiling, state
from training.loop.checkpoints import list_checkpoints
from training.loop.train import train
from training.loop.watch import Watch
from training.mqvae.module import ImageBatch, MQVAETrainingModule
from workspace.errors import PeerLostError, UserError
from workspace.settings import Compute

MIDDLE, MACHINE = "in the middle of a training", "machines"
Outcome = Callable[[Field, Path], str]
GOOD = "; lower the learning rate, or clip gradients (the last good checkpoint is work/step-000000010); 0 tensors moved"


def bad_gradient(which: str, value: float, precision: Literal["fp32", "bf16"]) -> Outcome:
    """One gradient of a 14th step, with finite losses; what is told, and what moved."""

    def outcome(field: Field, folder: Path) -> str:
        subject = images.training_module(images.TRAINING.replaced(precision=precision))
        before: list[dict[str, torch.Tensor]] = []
        spoiling(subject, 13, which, value)
        whole = subject.micro_step
        subject.micro_step = lambda batch, step, share: (
            before.append(state(subject)),
            whole(batch, step, share),
        )[1]  # type: ignore[method-assign]
        plan = images.TRAINING.replaced(validate_every=20)
        with pytest.raises(UserError, match="step 14") as told:
            train(subject, images.batches(plan), plan, images.Alone(), images.folder(folder))
        now = state(subject)
        moved = [name for name in now if not torch.equal(now[name], before[-1][name])]
        kept = list_checkpoints(folder / "work")[-1].name
        return f"{plain(str(told.value), folder)}; {len(moved)} tensors moved, {kept} kept"

    return outcome


def same_cells(field: Field, folder: Path) -> str:
    """The cells that exploration keeps of twelve images, in micro-batches of 1, 3 and 12."""
    masker = images.MQVAE(images.CONFIG).masker
    z_BLD, noise_BL = torch.randn(12, 16, 8), torch.randn(12, 16)
    z_BLD *= torch.logspace(-2, 2, 12)[:, None, None]
    kept = []
    for size in (1, 3, 12):
        parts = zip(z_BLD.split(size), noise_BL.split(size), strict=True)
        kept.append(torch.cat([masker(z, noise, 2.0).positions_BN for z, noise in parts]))
    return "the same cells" if all(torch.equal(one, kept[0]) for one in kept) else "other cells"


def no_look(field: Field, folder: Path) -> str:
    """A step on a device that has no numbers to give."""
    training = images.TRAINING.replaced(precision="fp32")
    nowhere = torch.device("meta")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
        subject = MQVAETrainingModule(
            images.MQVAE(images.CONFIG),
            training,
            None,
            torch.zeros(4, 3, 8, 8),
            nowhere,
            lambda *_: None,
        )
        on_nothing(subject)
        watch = Watch(nowhere, folder)
        for step in range(3, 14):
            watch.begin(step)
            watch.admit(subject.micro_step(ImageBatch(torch.zeros(4, 3, 8, 8), 0, [1, 2, 3, 4]), step, 1.0))
            subject.finish_step(step, lambda tensor: tensor, watch.admit)
    return "11 steps, no number asked for"


def died(*errors: Exception) -> Outcome:
    """A group whose workers raised these: tried again, or told."""

    def outcome(field: Field, folder: Path) -> str:
        failed = type("Failed", (Exception,), {"worker_failures": dict(enumerate(errors))})()
        told = group_training._mistake(failed)
        return "the group starts again" if told is None else f"told at once: {type(told).__name__}: {told}"

    return outcome


def slipping(tried: list[str], job: ShardJob) -> dict[str, Any]:
    tried.append(job.input.name)
    raise KeyError("image")


def fan_out(field: Field, folder: Path) -> str:
    """A fan-out whose function fails on its one shard."""
    tried: list[str] = []
    compute = Compute(device="cpu", workers=0, threads=1, loader_workers=0, ray_address="local")
    jobs = [ShardJob(folder / "0.tar", folder / "0.out", 0)]
    with pytest.raises(UserError, match="1 of 1 shards failed") as told:
        map_shards(
            lambda: partial(slipping, tried),
            jobs,
            compute,
            folder / "done",
            "tokenize",
            folder / "progress.json",
        )
    return f"tried {len(tried)} time: {plain(str(told.value), folder)}"


SHAPES = RuntimeError("mat1 and mat2 shapes cannot be multiplied (3x4 and 5x6)")
GONE = PeerLostError("Connection closed by peer")
MIDDLES = tuple(
    Row(symptom, MIDDLE, made, expected, outcome)
    for symptom, made, expected, outcome in (
        (
            "losses are finite, one gradient is infinite: the step is taken and told one later",
            "a gradient of the MQ-VAE's 14th step set to inf",
            f"step 14: the model's gradient norm is inf{GOOD}",
            bad_gradient("model", math.inf, "fp32"),
        ),
        (
            "the same in bf16",
            "the same under autocast, NaN",
            f"step 14: the model's gradient norm is nan{GOOD}",
            bad_gradient("model", math.nan, "bf16"),
        ),
        (
            "the same in the discriminator",
            "a gradient of the discriminator set to inf",
            f"step 14: the discriminator's gradient norm is inf{GOOD}",
            bad_gradient("discriminator", math.inf, "fp32"),
        ),
        (
            "another micro_batch keeps other cells while exploring",
            "12 images in micro-batches of 1, 3 and 12",
            "the same cells",
            same_cells,
        ),
        (
            "a training step waits for its GPU",
            "11 steps on the device `meta`, which raises where a number is read",
            "no number asked for",
            no_look,
        ),
        (
            "a shape error on Ray is tried three times",
            "one worker raises it, its peer loses the connection",
            "told at once: RuntimeError: mat1 and mat2",
            died(GONE, SHAPES),
        ),
        (
            "out of memory on Ray is tried three times",
            "torch.OutOfMemoryError in one worker",
            "told at once: RuntimeError: CUDA out of memory",
            died(GONE, torch.OutOfMemoryError("CUDA out of memory")),
        ),
        (
            "a missing file on Ray is tried three times",
            "FileNotFoundError in one worker",
            "told at once: FileNotFoundError",
            died(FileNotFoundError("weights.safetensors")),
        ),
        (
            "a peer is gone",
            "torch.distributed raises in those that are left",
            "the group starts again",
            died(GONE, torch.distributed.DistBackendError("aborted")),
        ),
        (
            "a slip of the program is tried three times on each shard",
            "KeyError in a fan-out's function",
            "tried 1 time: tokenize: 1 of 1 shards failed",
            fan_out,
        ),
    )
)


def granted(gpus: int, why: str, device: Literal["auto", "cuda"] = "auto") -> Outcome:
    """What a machine with so many GPUs, which torch can use or not, gives two workers."""

    def outcome(field: Field, folder: Path) -> str:
        said: list[str] = []
        compute = Compute(device=device, workers=2, threads=1, loader_workers=0, ray_address="local")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(session, "say", said.append)
            patch.setattr(session, "gpu_answers", lambda: {"10.0.0.1": why})
            try:
                got = session.granted_of(compute, {"CPU": 8.0, "GPU": float(gpus)})
            except UserError as told:
                return f"refused: {told}"
        return f"{got.compute.workers} on {'GPUs' if got.gpu else 'CPUs'}; said: {' '.join(said)}"

    return outcome


MACHINES = tuple(
    Row(symptom, MACHINE, made, expected, outcome)
    for symptom, made, expected, outcome in (
        (
            "two workers on a machine with one GPU: make repro stops",
            "`workers: 2`, `device: auto`, one GPU",
            "1 on GPUs; said: compute.workers is 2, and this Ray cluster has 1 GPU: 1 worker",
            granted(1, ""),
        ),
        (
            "Ray sees a GPU that torch cannot use: nccl fails",
            "a CPU wheel of torch",
            "which torch cannot use on node 10.0.0.1 (torch is built without CUDA): computing on CPUs",
            granted(1, "torch is built without CUDA"),
        ),
        (
            "the same with device: cuda",
            "a driver too old",
            "torch cannot use on node 10.0.0.1 (the driver is too old): fix that, or set compute.device: cpu",
            granted(2, "the driver is too old", "cuda"),
        ),
    )
)
ROWS: tuple[Row, ...] = (*MIDDLES, *MACHINES)
