"""Shared by the training phases: data, its params, and stages as concurrent programs on one device."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu.phase import Place

ROOT = Path(__file__).resolve().parents[2]
PRESETS = ROOT / "presets"
SQUEEZENET, HEADS = "squeezenet1_1.safetensors", "lpips_squeeze_v0.1.safetensors"
PROCESSES = 14
"""Trainings side by side on a GPU, at most; each wants a core."""
TAIL = 1500
"""Characters of a program's output that explain its failure."""
DRAWN = {"train": 48, "val": 16}


@dataclass(frozen=True)
class Program:
    """Something to run.

    Attributes:
        name: of its log, unique.
        command: what is run.
    """

    name: str
    command: Sequence[str]


@dataclass(frozen=True)
class Ended:
    """A program's outcome: its exit status (None if it ran out of time), seconds, and the end of its output."""

    status: int | None
    seconds: float
    tail: str

    @property
    def ok(self) -> bool:
        """Whether it did its work."""
        return self.status == 0


def stage(name: str, *words: str) -> list[str]:
    """A stage's command line."""
    return [sys.executable, "-m", f"stages.{name}", *words]


def side_by_side(
    programs: Sequence[Program],
    place: Place,
    width: int,
    until: float,
    ended: Callable[[str, Ended], None] = lambda name, result: None,
) -> dict[str, Ended]:
    """Run programs, `width` at a time, in their order; those that are still at work at `until` are ended, others not begun.

    They stay in this process's group, so that ending it ends them too.
    """
    logs = place.work / "logs"
    logs.mkdir(exist_ok=True)
    waiting, found = list(programs), dict[str, Ended]()
    running: dict[str, tuple[subprocess.Popen[bytes], float]] = {}
    while (waiting or running) and time.time() < until:
        while waiting and len(running) < width:
            program = waiting.pop(0)
            with (logs / f"{program.name}.txt").open("wb") as file:
                process = subprocess.Popen(
                    program.command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT
                )
            running[program.name] = (process, time.time())
        for name, (process, began) in list(running.items()):
            if process.poll() is not None:
                del running[name]
                found[name] = Ended(process.returncode, time.time() - began, tail_of(logs / f"{name}.txt"))
                ended(name, found[name])
        time.sleep(0.05)
    for process, _ in running.values():
        process.kill()
    for name, (process, began) in running.items():
        process.wait()
        found[name] = Ended(None, time.time() - began, tail_of(logs / f"{name}.txt"))
        ended(name, found[name])
    return found


def tail_of(path: Path) -> str:
    """The end of a file."""
    return path.read_bytes()[-TAIL:].decode(errors="replace")


def width_of(place: Place) -> int:
    """How many trainings run side by side."""
    cores = os.cpu_count() or 1
    return max(1, min(PROCESSES, cores - 2)) if place.device == "cuda" else cores


def shards_for(place: Place, name: str, size: int) -> Path:
    """Image shards of a data set: those that were given, else drawn shapes of that many pixels, which are made once.

    Raises:
        RuntimeError: the shapes could not be made.
    """
    if place.shards is not None and (place.shards / f"{name}-{size}").is_dir():
        return place.shards / f"{name}-{size}"
    size = 16 if place.tiny else size
    folder = place.work / f"shapes-{size}"
    if not folder.is_dir():
        counts = DRAWN if place.tiny else {"train": 4000, "val": 300}
        sets = [f"shapes.image_size={size}", *(f"shapes.{split}={count}" for split, count in counts.items())]
        sets += [
            "shapes.texture_contrast=0.2",
            "compute.workers=0",
            "compute.threads=1" if place.tiny else "compute.threads=0",
        ]
        drawn = place.work / f"drawn-{size}"
        run_stages(
            place,
            f"draw-{size}",
            [stage("draw_shapes", "--out", str(drawn), *setting(PRESETS / "tiny.yaml", sets))],
        )
        sets = [
            f"shard.source={drawn}",
            f"shard.image_size={size}",
            f"mqvae.model.image_size={size}",
            "compute.workers=0",
        ]
        run_stages(
            place,
            f"shard-{size}",
            [stage("shard", "--out", str(folder), *setting(PRESETS / "tiny.yaml", sets))],
        )
    return folder


def run_stages(place: Place, name: str, commands: Sequence[Sequence[str]]) -> None:
    """Run programs one after the other.

    Raises:
        RuntimeError: one failed.
    """
    for number, command in enumerate(commands):
        program = Program(f"{name}-{number}", command)
        ended = side_by_side([program], place, 1, place.deadline)[program.name]
        if not ended.ok:
            raise RuntimeError(f"{' '.join(command[:4])} ended with status {ended.status}:\n{ended.tail}")


def setting(params: Path, changes: Sequence[str]) -> list[str]:
    """The options of a stage for a params file and changes to it."""
    return ["--params", str(params), *(word for change in changes for word in ("--set", change))]


def facts_of(shards: Path) -> Mapping[str, Any]:
    """The facts of image shards."""
    facts: dict[str, Any] = json.loads((shards / "manifest.json").read_text(encoding="utf-8"))["facts"]
    return facts


def machine_sets(place: Place) -> list[str]:
    """The device."""
    return [
        f"compute.device={place.device}",
        "compute.workers=0",
        "compute.threads=1",
        "compute.checkpoints=null",
    ]


def perception_sets(place: Place, shards: Path) -> list[str]:
    """The perceptual loss and the features of a reference: SqueezeNet's where there are weights, else none, and the proxy's."""
    weights = place.weights
    if weights is not None and (weights / SQUEEZENET).is_file() and (weights / HEADS).is_file():
        lpips = f"{{network: squeezenet, backbone: {weights / SQUEEZENET}, heads: {weights / HEADS}}}"
        changes = ["reference.features=squeezenet", f"reference.weights={weights / SQUEEZENET}"]
        changes.append("reference.second=null")  # its package may be missing there
        return [*changes, f"mqvae.perceptual={lpips}", f"reconstruct.lpips={lpips}"]
    if facts_of(shards)["classes"] is None:
        raise RuntimeError(
            f"{shards} has no labels, which the proxy learns from: give --weights, a folder with {SQUEEZENET}"
        )
    none = "{network: none, backbone: null, heads: null}"
    changes = [
        "reference.features=proxy",
        "reference.second=null",
        "reference.weights=null",
        "shard.kind=class_folder",
        "mqvae.loss.perceptual=0",
    ]
    return [*changes, f"mqvae.perceptual={none}", f"reconstruct.lpips={none}"]


TINY = (
    "reference.max_images=32",
    "reference.proxy.steps=2",
    "mqvae.global_batch=4",
    "mqvae.micro_batch=4",
    "mqvae.warmup_steps=0",
    "mqvae.validate_images=8",
    "mqvae.model.channels=8",
    "mqvae.model.code_dim=8",
    "mqvae.model.num_codes=16",
    "mqvae.model.scorer_width=8",
    "mqvae.model.demask_blocks=1",
    "reconstruct.examples=2",
    "stackformer.global_batch=4",
    "stackformer.micro_batch=4",
    "stackformer.warmup_steps=0",
    "stackformer.validate_images=8",
    "stackformer.model.width=16",
    "stackformer.model.heads=2",
    "sample.num_images=8",
    "sample.batch=4",
    "sample.samples_per_shard=4",
)
"""Sizes of a rehearsal."""
