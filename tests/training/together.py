"""Groups of 1, 2 and 4 real processes (gloo) that train the same model: what their curves and codebooks say.

python -m tests.training.together     writes docs/results/workers.json: how far groups differ in float64 and in fp32
"""

import dataclasses
import json
import multiprocessing
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed
from safetensors.torch import load_file

from benchmarks.flat_sums import flat
from tests.training import test_mqvae_training as images
from tests.training import test_stackformer_training as tokens
from training.loop.checkpoints import list_checkpoints
from training.loop.train import train
from training.mqvae.module import ImageBatch
from training.stackformer.batches import TokenBatches

STEPS = 50
MODELS = ("mqvae", "stackformer")
RESULT = Path("docs/results/workers.json")


@dataclass(frozen=True)
class Group:
    """One training run: which model, in which precision, by how many workers, under which name, summed in which way.

    `way`: ddp (behind the backward pass), flat (after it), or fsdp (weights divided). A later group of the same name continues
    the run of an earlier one, which ended after `until` steps.
    """

    name: str
    model: str
    precision: str
    size: int
    way: str = "ddp"
    until: int = STEPS


@dataclass(frozen=True)
class Member:
    """A worker as the loop sees it."""

    rank: int
    size: int
    device: torch.device = torch.device("cpu")


def be_member(rank: int, groups: Sequence[Group], folder: Path) -> None:
    """What process `rank` does: its part in each group that has so many workers."""
    torch.set_num_threads(1)
    for group in groups:
        if rank >= group.size:
            continue
        if group.size > 1:
            store = f"file://{folder / group.name}-{group.until}.store"
            torch.distributed.init_process_group("gloo", store, rank=rank, world_size=group.size)
        {"mqvae": learn_images, "stackformer": learn_tokens}[group.model](
            group, Member(rank, group.size), folder / group.name
        )
        if group.size > 1:
            torch.distributed.destroy_process_group()


def learn_images(group: Group, member: Member, folder: Path) -> None:
    """MQ-VAE with discriminator, exploration, late quantising and restarts of dead codes, all within the run."""
    settings = images.TRAINING.replaced(
        steps=STEPS, micro_batch=2, validate_every=25, precision=group.precision
    )
    picky = dataclasses.replace(images.CONFIG.quantizer, restart_below=0.5)
    config = dataclasses.replace(images.CONFIG, quantizer=picky)
    whole = images.batches(settings)

    def mine(step: int) -> list[ImageBatch]:
        return [whole(step)[number] for number in settings.mine(member.rank, member.size)]

    subject = images.training_module(settings, config)
    subject = flat(subject, group.size) if group.way == "flat" else subject
    train(subject, mine, settings, member, images.folder(folder))


def learn_tokens(group: Group, member: Member, folder: Path) -> None:
    """Stackformer with a dropped condition."""
    settings = tokens.TRAINING.replaced(
        steps=STEPS, micro_batch=4, log_every=1, validate_every=25, precision=group.precision
    )
    if group.way == "fsdp":
        settings = settings.replaced(parallel="fsdp", activation_checkpointing=True)
    batches = TokenBatches(tokens.tokens(), tokens.CLASSES, settings, member)
    subject = tokens.training_module(settings)
    subject = flat(subject, group.size) if group.way == "flat" else subject
    # schedules have the module's length, the loop ends earlier
    train(subject, batches, settings.replaced(steps=group.until), member, tokens.folder(folder))


def run(groups: Sequence[Group], folder: Path) -> None:
    """Train all groups, in as many processes as the largest one needs."""
    context = multiprocessing.get_context("forkserver")  # torch is imported once for all of them
    context.set_forkserver_preload([__name__])
    ranks = range(max(group.size for group in groups))
    members = [context.Process(target=be_member, args=(rank, groups, folder)) for rank in ranks]
    for process in members:
        process.start()
    for process in members:
        process.join()
    assert [process.exitcode for process in members] == [0] * len(members)


def curves(folder: Path) -> dict[str, list[float]]:
    """Columns of a run's curves, but for its rate."""
    lines = (folder / "metrics" / "curves.tsv").read_text().splitlines()
    header, *rows = [line.split("\t") for line in lines]
    found = {name: [float(row[column]) for row in rows] for column, name in enumerate(header)}
    assert found.pop("step") == list(range(1, STEPS + 1))
    found.pop("samples_per_second")
    return found


def state(folder: Path) -> Path:
    """The last checkpoint's tensors."""
    return list_checkpoints(folder / "work")[-1] / "state.safetensors"


def difference(one: Path, other: Path) -> float:
    """The largest relative difference of two runs: over all steps' terms, and the tensors at the end, codebook included."""
    ours, theirs = curves(one), curves(other)
    assert ours.keys() == theirs.keys()
    pairs = [(a, b) for name in ours for a, b in zip(ours[name], theirs[name], strict=True) if a != b]
    largest = max((abs(a - b) / max(abs(a), abs(b)) for a, b in pairs), default=0.0)
    weights, others = (load_file(state(folder)) for folder in (one, other))
    for name in weights:
        if name.startswith("module/"):
            scale = weights[name].abs().max().clamp_min(1e-12)
            largest = max(largest, float((weights[name] - others[name]).abs().max() / scale))
    return largest


def main() -> None:
    """Measure, and write the result."""
    groups = [
        Group(f"{model}-{precision}-{size}", model, precision, size)
        for model in MODELS
        for precision in ("float64", "fp32")
        for size in (1, 2, 4)
    ]
    with tempfile.TemporaryDirectory() as name:
        run(groups, Path(name))
        found = {
            f"{model}, {precision}, {size} workers against 1": difference(
                Path(name, f"{model}-{precision}-1"), Path(name, f"{model}-{precision}-{size}")
            )
            for model in MODELS
            for precision in ("float64", "fp32")
            for size in (2, 4)
        }
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    told = {"steps": STEPS, "largest_relative_difference": found, "commit": commit.stdout.strip()}
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(told | {"command": "python -m tests.training.together"}, indent=2) + "\n")
    sys.stdout.write(RESULT.read_text())


if __name__ == "__main__":
    main()
