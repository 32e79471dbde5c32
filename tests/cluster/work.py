"""What the tests run, in Ray's workers too: importable there, unlike a test module."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed

from cluster.shard_map import ShardJob
from cluster.training import WorkerGroup
from workspace.errors import UserError
from workspace.exact.manifest import atomic_path, write_json
from workspace.progress import Progress


@dataclass(frozen=True)
class Lesson:
    """A config: where to write, and how to fail."""

    folder: Path
    mistake: str


def learn(lesson: Lesson, group: WorkerGroup) -> None:
    """Add up over the group, report, and say what was seen."""
    if lesson.mistake == "shapes":
        with (lesson.folder / f"tries-{group.rank}").open("a") as file:
            file.write("tried\n")
        if group.rank == 1:
            torch.zeros(3, 4) @ torch.zeros(5, 6)
        torch.distributed.all_reduce(torch.zeros(1))
    if lesson.mistake and group.rank == group.size - 1:
        raise UserError(lesson.mistake)
    mine = torch.arange(3.0, device=group.device) + group.rank
    if group.size > 1:
        torch.distributed.all_reduce(mine)
    if group.rank == 0:
        with Progress("adding", 1, "steps", lesson.folder / "progress.json") as bar:
            bar.update(1, total=float(mine.sum()))
    seen = {"sum": mine.tolist(), "size": group.size, "threads": torch.get_num_threads(), "pid": os.getpid()}
    write_json(lesson.folder / f"{group.rank}.json", seen)


def doubling(bad: str, how: str, log: Path) -> Callable[[ShardJob], dict[str, Any]]:
    """A function that doubles a file's text; on the input named `bad` it fails, or takes its process with it."""
    if how == "no model":
        raise UserError("there is no model")

    def one(job: ShardJob) -> dict[str, Any]:
        with log.open("a") as file:
            file.write(f"{job.input.name}\n")
        if job.input.name == bad and how == "dies":
            os._exit(7)
        if job.input.name == bad:
            raise RuntimeError("half way")
        text = job.input.read_text() * 2
        with atomic_path(job.output) as temporary:
            temporary.write_text(text)
        return {"length": len(text)}

    return one


def jobs(folder: Path, count: int = 4) -> list[ShardJob]:
    """One text file a job, each with its own text."""
    (folder / "in").mkdir(exist_ok=True)
    for number in range(count):
        (folder / "in" / f"{number}.txt").write_text(str(number) * (number + 1))
    return [
        ShardJob(folder / "in" / f"{number}.txt", folder / "out" / f"{number}.txt", number)
        for number in range(count)
    ]
