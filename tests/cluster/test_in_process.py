"""Laws of `map_shards` and `fit` without Ray: idempotent, resumable, honest about what failed."""

import errno
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cluster.session import preflight
from cluster.shard_map import Mapper, ShardJob, map_shards
from cluster.training import WorkerGroup, _mistake, fit
from tests.cluster.work import doubling, jobs
from workspace.errors import UserError, is_out_of_memory
from workspace.settings import Compute

HERE = Compute(device="cpu", workers=0, threads=1, loader_workers=0, ray_address="local")


def run(folder: Path, bad: str = "", compute: Compute = HERE) -> list[dict[str, Any]]:
    make = partial(doubling, bad, "fails", folder / "log")
    return list(
        map_shards(make, jobs(folder), compute, folder / "done", "doubling", folder / "progress.json")
    )


def test_facts_come_in_the_order_of_the_jobs(tmp_path: Path) -> None:
    assert [fact["length"] for fact in run(tmp_path)] == [2, 4, 6, 8]
    assert (tmp_path / "out" / "3.txt").read_text() == "33333333"


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    first = run(tmp_path)
    before = (tmp_path / "log").read_text()
    assert run(tmp_path) == first
    assert (tmp_path / "log").read_text() == before


def test_a_failing_shard_is_tried_three_times_and_named_and_the_others_are_kept(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"doubling: 1 of 4 shards failed \(in/1.txt\): RuntimeError: half way"
    ):
        run(tmp_path, bad="1.txt")
    assert (tmp_path / "log").read_text().count("1.txt") == 3
    assert (tmp_path / "out" / "3.txt").is_file() and not (tmp_path / "out" / "1.txt").exists()
    assert [path.name for path in (tmp_path / "out").iterdir()].count("1.txt.error.txt") == 0
    assert [fact["length"] for fact in run(tmp_path)] == [2, 4, 6, 8]
    assert (tmp_path / "log").read_text().count("0.txt") == 1


def test_a_shard_for_which_memory_runs_out_stops_the_work_at_once(tmp_path: Path) -> None:
    tried = []

    def one(job: ShardJob) -> dict[str, Any]:
        tried.append(job.input.name)
        if job.input.name == "1.txt":
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB\nmore")
        job.output.parent.mkdir(exist_ok=True)
        job.output.write_text("made")
        return {}

    told = (
        r"doubling: RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB; finished shards are kept$"
    )
    with pytest.raises(UserError, match=told) as caught:
        map_shards(
            lambda: one, jobs(tmp_path), HERE, tmp_path / "done", "doubling", tmp_path / "progress.json"
        )
    assert tried == ["0.txt", "1.txt"] and is_out_of_memory(caught.value)


def test_many_failed_shards_are_named_in_part(tmp_path: Path) -> None:
    make = partial(doubling, "", "no output", tmp_path / "log")
    many = [
        ShardJob(tmp_path / f"{number}.txt", tmp_path / "out" / str(number), number) for number in range(9)
    ]
    with pytest.raises(
        UserError, match=r"9 of 9 shards failed \(.*/0.txt, .*/4.txt and 4 more\): FileNotFound"
    ):
        map_shards(make, many, HERE, tmp_path / "done", "doubling", tmp_path / "progress.json")


def test_a_mistake_in_making_the_function_is_told_before_any_work() -> None:
    mapper = Mapper(partial(doubling, "", "no model", Path("log")), 1, ".")
    assert mapper.prepare() == "there is no model"


def test_in_one_process_a_worker_is_alone(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []

    def worker(config: str, group: WorkerGroup) -> None:
        group.report({"loss": 1.0}, None)
        seen.append((config, group.rank, group.size))

    fit(worker, "config", HERE, tmp_path)
    assert seen == [("config", 0, 1)]


def test_asking_for_more_than_there_is_is_refused_with_both_numbers() -> None:
    many = HERE.model_copy(update={"workers": 8})
    with pytest.raises(UserError, match="compute.workers = 8 needs 8 CPUs; this Ray cluster has 2"):
        preflight(many, {"CPU": 2.0})
    gpus = many.model_copy(update={"device": "cuda"})
    with pytest.raises(UserError, match="needs 8 GPUs; this Ray cluster has 0. .*set compute.device: cpu"):
        preflight(gpus, {"CPU": 64.0})


@dataclass
class Failed(Exception):
    """What Ray Train raises of a group: rank → what became of it."""

    worker_failures: dict[int, BaseException]


def ray_said(text: str) -> Exception:
    """An exception of a class of Ray's own."""
    return type("WorkerHealthCheckFailedError", (Exception,), {"__module__": "ray.train.v2"})(text)


def test_a_lost_worker_is_no_mistake_and_a_mistake_is_told_at_once() -> None:
    lost = {0: RuntimeError("Connection closed by peer"), 1: ray_said("a worker health check failed")}
    assert _mistake(Failed(lost)) is None
    assert _mistake(Failed({})) is None
    assert isinstance(_mistake(Failed(lost | {2: UserError("mqvae.steps is wrong")})), UserError)
    slip = Failed(lost | {2: TypeError("a slip of the program")})
    assert _mistake(slip) is slip
    full = _mistake(Failed({0: OSError(errno.ENOSPC, "No space left on device", "/x")}))
    assert isinstance(full, UserError) and "no space is left on the disk for /x" in str(full)
