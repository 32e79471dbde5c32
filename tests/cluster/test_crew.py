"""Laws of fan-outs in threads: the same facts and bytes as one process, and nothing that lives on."""

import _thread
import os
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from cluster import crew, shard_map
from cluster.shard_map import ShardJob, Task, map_shards
from tests.cluster.work import doubling, jobs
from tests.waiting import slowness
from workspace.errors import UserError
from workspace.settings import Compute

TWO = Compute(device="cpu", workers=2, threads=1, loader_workers=0, ray_address="local")


@pytest.fixture(autouse=True)
def two_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)


def mapped(folder: Path, make: Callable[[], Any], compute: Compute = TWO, count: int = 4) -> list[Any]:
    return list(
        map_shards(make, jobs(folder, count), compute, folder / "done", "doubling", folder / "progress.json")
    )


def living() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("worker-")]


def test_threads_give_the_facts_and_files_of_one_process(tmp_path: Path) -> None:
    for name, compute in (("threads", TWO), ("one", TWO.model_copy(update={"workers": 0}))):
        (tmp_path / name).mkdir()
        found = mapped(tmp_path / name, partial(doubling, "", "", tmp_path / name / "log"), compute)
        assert [fact["length"] for fact in found] == [2, 4, 6, 8]
        assert sorted((tmp_path / name / "log").read_text().split()) == [f"{i}.txt" for i in range(4)]
    for number in range(4):
        made = [(tmp_path / name / "out" / f"{number}.txt").read_bytes() for name in ("threads", "one")]
        assert made[0] == made[1]


def test_each_thread_makes_its_function_once_and_computes_with_its_own_torch_threads(tmp_path: Path) -> None:
    made, seen = list[str](), list[int]()
    meeting, before = threading.Barrier(2, timeout=30 * slowness()), torch.get_num_threads()

    def make() -> Callable[[ShardJob], dict[str, Any]]:
        made.append(threading.current_thread().name)
        meeting.wait()  # both are there, so each takes some

        def one(job: ShardJob) -> dict[str, Any]:
            seen.append(torch.get_num_threads())
            job.output.parent.mkdir(exist_ok=True)
            job.output.touch()
            return {}

        return one

    mapped(tmp_path, make, TWO.model_copy(update={"threads": 3}))
    assert sorted(made) == ["worker-0", "worker-1"] and seen == [3] * 4
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("make", "error", "told"),
    [
        (partial(doubling, "", "no model", Path("log")), UserError, "^there is no model$"),
        (partial(doubling, nonsense=1), TypeError, "unexpected keyword argument"),
    ],
)
def test_what_is_wrong_with_a_worker_is_raised_here(
    tmp_path: Path, make: Any, error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        mapped(tmp_path, make)


def test_more_workers_than_processors_are_refused_as_ray_would(tmp_path: Path) -> None:
    many = TWO.model_copy(update={"workers": 10_000})
    with pytest.raises(UserError, match="compute.workers = 10000 needs 10000 CPUs"):
        mapped(tmp_path, partial(doubling, "", "", tmp_path / "log"), many)


@pytest.mark.parametrize(
    ("change", "suits"),
    [
        ({}, True),
        ({"device": "cuda"}, False),
        ({"ray_address": "auto"}, False),
        ({"ray_address": "10.0.0.1:6379"}, False),
    ],
)
def test_gpus_and_clusters_are_rays(change: dict[str, str], suits: bool) -> None:
    assert crew.suits(TWO.model_copy(update=change)) == suits


def test_what_threads_have_not_begun_in_time_is_left_to_ray(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = list[str]()

    def on_ray(make: Any, tasks: Iterator[Task], count: int, *_: object) -> Iterator[str]:
        rest = list(tasks)
        left.extend(task.job.input.name for task in rest)
        assert count == len(rest)
        one = make()
        yield from (shard_map.attempt(one, task) for task in rest)

    def slowly() -> Callable[[ShardJob], dict[str, Any]]:
        one = doubling("", "", tmp_path / "log")
        return lambda job: time.sleep(0.3) or one(job)

    monkeypatch.setattr(shard_map, "_on_ray", on_ray)
    monkeypatch.setattr(crew, "SHORT_SECONDS", 0.1)
    assert [fact["length"] for fact in mapped(tmp_path, slowly)] == [2, 4, 6, 8]
    assert "3.txt" in left  # two threads have taken two at most
    assert sorted((tmp_path / "log").read_text().split()) == [f"{i}.txt" for i in range(4)]


def test_a_fan_out_that_is_stopped_leaves_no_thread_behind(tmp_path: Path) -> None:
    begun, cleaned = threading.Barrier(3, timeout=30 * slowness()), list[str]()

    class Endless:
        def prepare(self) -> str:
            return ""

        def run(self, job: str) -> str:
            begun.wait()
            try:
                while True:
                    time.sleep(0.01)
            finally:
                cleaned.append(job)

    results = crew.begun(Endless, iter(["a", "b", "c"]), 3, TWO)
    signal = threading.Thread(target=lambda: (begun.wait(), _thread.interrupt_main()))
    signal.start()
    with pytest.raises(KeyboardInterrupt):
        next(results)
    assert sorted(cleaned) == ["a", "b"] and not living()
