"""Laws of `map_shards` and `fit` without Ray: idempotent, resumable, honest about what failed."""

import errno
import os
import re
import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed

from cluster import back as growing
from cluster import devices, session, training
from cluster.session import granted_of
from cluster.shard_map import Mapper, ShardJob, map_shards
from cluster.training import WorkerGroup, _mistake, fit
from tests.cluster.work import doubling, jobs
from tests.waiting import until
from workspace.errors import PeerLostError, RegroupError, UserError, is_out_of_memory
from workspace.runs import REGROUP
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


def test_a_failing_shard_is_tried_once_and_named_and_the_others_are_kept(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"doubling: 1 of 4 shards failed \(in/1.txt\): RuntimeError: half way"
    ):
        run(tmp_path, bad="1.txt")
    assert (tmp_path / "log").read_text().count("1.txt") == 1
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
        seen.append((config, group.rank, group.size))

    fit(worker, "config", HERE, tmp_path)
    assert seen == [("config", 0, 1)]


NONE, OLD = "", "too old a driver"


@pytest.mark.parametrize(
    ("device", "workers", "cpus", "gpus", "answers", "granted", "said"),
    [
        ("auto", 2, 8, 0, [], (2, False), ""),
        ("auto", 2, 8, 2, [NONE], (2, True), ""),
        ("auto", 2, 8, 1, [NONE], (1, True), "compute.workers is 2, and this Ray cluster has 1 GPU: 1 worker"),
        ("auto", 4, 8, 3, [NONE, NONE], (3, True), "has 3 GPUs: 3 workers"),
        ("auto", 2, 1, 4, [NONE], (1, True), "has 1 GPU: 1 worker"),
        ("auto", 2, 1, 0, [], (1, False), "has 1 CPU: 1 worker"),
        ("auto", 2, 8, 1, [OLD], (2, False), "1 GPU, which torch cannot use on node 0 (too old a driver): computing on CPUs"),
        ("auto", 2, 0, 0, [], None, "compute.workers = 2 needs 2 CPUs; this Ray cluster has 0. Lower compute.workers."),
        ("auto", 2, 8, 2, [NONE, OLD], None, "cannot use on node 1 (too old a driver): fix that, or set compute.device: cpu"),
        ("cpu", 2, 8, 4, [OLD], (2, False), ""),
        ("cpu", 8, 2, 4, [NONE], None, "compute.workers = 8 needs 8 CPUs; this Ray cluster has 2. Lower compute.workers."),
        ("cuda", 2, 8, 2, [NONE], (2, True), ""),
        ("cuda", 2, 8, 1, [NONE], None, "2 GPUs; this Ray cluster has 1. Lower compute.workers, or set compute.device: auto."),
        ("cuda", 2, 8, 0, [], None, "compute.device is cuda, but this Ray cluster has no GPU; set compute.device: cpu, or auto"),
        ("cuda", 1, 8, 1, [OLD], None, "cannot use on node 0 (too old a driver): fix that, or set compute.device: cpu"),
    ],
)  # fmt: skip
def test_what_a_cluster_grants(
    monkeypatch: pytest.MonkeyPatch, device: Any, workers: int, cpus: int, gpus: int,
    answers: list[str], granted: tuple[int, bool] | None, said: str,
) -> None:  # fmt: skip
    """Named devices are had or refused; auto makes do with what there is, and says so."""
    told: list[str] = []
    monkeypatch.setattr(session, "say", told.append)
    monkeypatch.setattr(session, "gpu_answers", lambda: {str(node): why for node, why in enumerate(answers)})
    wanted = HERE.model_copy(update={"device": device, "workers": workers})
    resources = {"CPU": float(cpus)} | ({"GPU": float(gpus)} if gpus else {})
    if granted is None:
        with pytest.raises(UserError, match=re.escape(said)):
            granted_of(wanted, resources)
        return
    got = granted_of(wanted, resources)
    assert (got.compute.workers, got.gpu) == granted
    assert (said in told[0] and len(told) == 1) if said else not told


def test_torch_is_asked_to_compute_and_says_why_it_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    why = session.ask_torch("")["why"]
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
    assert torch.cuda.is_available() or why


@dataclass
class Failed(Exception):
    """What Ray Train raises of a group: rank → what became of it."""

    worker_failures: dict[int, BaseException]


def ray_said(text: str) -> Exception:
    """An exception of a class of Ray's own."""
    return type("WorkerHealthCheckFailedError", (Exception,), {"__module__": "ray.train.v2"})(text)


@pytest.mark.parametrize(
    ("name", "there", "trouble", "device"),
    [
        ("auto", False, "", "cpu"), ("auto", True, "", "cuda"), ("auto", True, "no kernel image", "cpu"),
        ("cuda", True, "", "cuda"), ("cuda", True, "no kernel image", None), ("cuda", False, "no driver", None),
        ("cpu", True, "", "cpu"),
    ],
)  # fmt: skip
def test_in_one_process_a_gpu_is_taken_only_where_torch_can_compute_on_it(
    monkeypatch: pytest.MonkeyPatch, name: str, there: bool, trouble: str, device: str | None
) -> None:
    said: list[str] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    monkeypatch.setattr(devices, "gpu_trouble", lambda: trouble)
    monkeypatch.setattr(devices, "say", said.append)
    if device is None:
        with pytest.raises(
            UserError, match=f"compute.device is cuda, but torch cannot use a GPU here .{trouble}"
        ):
            devices.device_of(name)
        return
    assert devices.device_of(name) == torch.device(device)
    assert said == (
        ["torch cannot use the GPU here (no kernel image): computing on the CPU"] if trouble else []
    )


LOST: dict[int, BaseException] = {
    0: PeerLostError("[gloo] Connection closed by peer"),
    1: ray_said("a worker health check failed"),
    2: torch.distributed.DistBackendError("NCCL communicator was aborted"),
    3: torch.distributed.DistStoreError("timed out after 60 s"),
}


def test_a_worker_a_node_or_a_peer_that_is_gone_is_no_mistake() -> None:
    assert _mistake(Failed(LOST)) is None
    assert _mistake(Failed({})) is None
    for number, lost in LOST.items():
        assert _mistake(Failed({number: lost})) is None


@pytest.mark.parametrize(
    "slip",
    [
        ValueError("no such mask"), KeyError("image"), TypeError("a slip of the program"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied (3x4 and 5x6)"), FileNotFoundError("weights"),
        OSError(5, "Input/output error"), ZeroDivisionError("division by zero"), AssertionError("never"),
    ],
)  # fmt: skip
def test_any_error_of_a_worker_is_told_at_once_whatever_became_of_its_peers(slip: Exception) -> None:
    assert _mistake(Failed(LOST | {4: slip})) is slip


def test_mistakes_of_a_user_a_full_disk_and_memory_are_told_in_a_line() -> None:
    assert isinstance(_mistake(Failed(LOST | {4: UserError("mqvae.steps is wrong")})), UserError)
    full = _mistake(Failed({0: OSError(errno.ENOSPC, "No space left on device", "/x")}))
    assert isinstance(full, UserError) and "no space is left on the disk for /x" in str(full)
    for memory in (
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        MemoryError(),
        ray_said("Task was killed due to the node running low on memory."),
    ):
        told = _mistake(Failed(LOST | {4: memory}))
        assert told is not None and is_out_of_memory(told)


@pytest.mark.parametrize(
    ("workers", "threads", "cores", "alone"),
    [(2, 1, 2, 2), (0, 1, 8, 1), (4, 2, 6, 6), (2, 0, 8, 8), (0, 0, 8, 8)],
)
def test_a_stage_that_computes_alone_takes_its_workers_threads(
    workers: int, threads: int, cores: int, alone: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    asked = HERE.model_copy(update={"workers": workers, "threads": threads})
    assert asked.threads_alone == alone


def test_a_group_that_left_a_new_checkpoint_is_tried_again_and_three_in_vain_are_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = pytest.importorskip("ray.train")
    left = iter(["", "", "step-0000002", "", "step-0000010", "", "", ""])
    tried: list[str] = []

    class Died(train.TrainingFailedError):  # type: ignore[misc]
        def __init__(self) -> None:
            Exception.__init__(self, "a worker was killed")

    def group(*arguments: Any) -> None:
        name = next(left)
        tried.append(name)
        if name:
            (tmp_path / "work" / name).mkdir(parents=True)
        raise Died

    monkeypatch.setattr(training, "_one_group", group)
    monkeypatch.setattr(training, "require_room", lambda compute, gpu: 1)
    granted = session.Granted(HERE.model_copy(update={"workers": 1}), gpu=False)
    with pytest.raises(RuntimeError, match="died 3 times without a new checkpoint: a worker was killed"):
        training._fit_on_ray(lambda config, group: None, None, granted, tmp_path)
    assert len(tried) == 8


def test_a_group_that_ended_for_more_workers_is_followed_by_a_larger_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node is lost, the group continues with one worker; the node comes back, and is used after the next checkpoint."""
    train = pytest.importorskip("ray.train")
    sizes: list[int] = []
    back = threading.Event()

    class Ended(train.TrainingFailedError):  # type: ignore[misc]
        def __init__(self, why: Exception) -> None:
            Exception.__init__(self, str(why))
            self.worker_failures = {0: why}

    def group(worker: Any, config: Any, compute: Compute, size: int, gpu: bool, folder: Path) -> None:
        sizes.append(size)
        asked = folder / "work" / REGROUP
        assert not asked.exists()
        if sizes == [2]:
            raise Ended(PeerLostError("[gloo] Connection closed by peer"))
        if size == 1:
            back.set()
            until(asked.exists, 20)
            raise Ended(RegroupError("there is room for more workers"))

    (tmp_path / "work").mkdir()
    monkeypatch.setattr(training, "_one_group", group)
    monkeypatch.setattr(training, "require_room", lambda compute, gpu: 1 + back.is_set())
    monkeypatch.setattr(growing, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(growing, "listed_room", lambda gpu: 1 + back.is_set())
    monkeypatch.setattr(growing, "usable_room", lambda granted, folder: 2)
    granted = session.Granted(HERE.model_copy(update={"workers": 2}), gpu=False)
    training._fit_on_ray(lambda config, group: None, None, granted, tmp_path)
    assert sizes == [2, 1, 2]


def test_a_node_that_came_back_unfit_is_named_once_and_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, said = list[int](), list[str]()

    def listed(gpu: bool) -> int:
        looks.append(1)
        return 2

    def unfit(granted: Any, folder: Path) -> int:
        raise UserError("node 10.0.0.5 has torch 2.11.0")

    monkeypatch.setattr(growing, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(growing, "listed_room", listed)
    monkeypatch.setattr(growing, "usable_room", unfit)
    monkeypatch.setattr(growing, "say", said.append)
    granted = session.Granted(HERE.model_copy(update={"workers": 2}), gpu=False)
    with growing.watched_for_room(granted, 1, tmp_path):
        until(lambda: len(looks) > 3, 20)
    assert said == ["a node came back and cannot be used yet: node 10.0.0.5 has torch 2.11.0"]
    assert not (tmp_path / "work" / REGROUP).exists()


def test_a_training_without_ray_is_not_asked_to_end_by_an_earlier_one_on_ray(tmp_path: Path) -> None:
    """Which was killed before its next checkpoint; other workers do not make it another run."""
    asked = tmp_path / "work" / REGROUP
    asked.parent.mkdir()
    asked.touch()
    seen: list[bool] = []
    training.fit(lambda config, group: seen.append(asked.exists()), None, HERE, tmp_path)
    assert seen == [False]
