"""Laws of the head, `fit` and `map_shards` on a real Ray with two workers; one head for all of them."""

import os
import signal
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from cluster import crew
from cluster.head import running_head, start, stop
from cluster.leftovers import sessions
from cluster.shard_map import map_shards
from cluster.training import fit
from tests.cluster.work import Lesson, doubling, jobs, learn
from workspace.errors import UserError
from workspace.exact.manifest import read_json
from workspace.settings import Compute

pytestmark = [
    pytest.mark.skipif(
        find_spec("ray") is None, reason="Ray is not installed"
    ),  # it reads its token when imported
    pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="two Ray workers need two cores"),
]
TWO = Compute(device="cpu", workers=2, threads=3, loader_workers=0, ray_address="local")


@pytest.fixture(scope="module", autouse=True)
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A head started here, used by every `session` of this file, stopped at the end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("head"))
        patch.setattr(crew, "SHORT_SECONDS", 0.0)  # fan-outs as short as these would not come here
        if not torch.cuda.is_available():
            patch.setenv("RAY_OVERRIDE_RESOURCES", '{"GPU": 1}')  # Ray sees one that torch cannot use
        address = start()
        yield address
        assert stop() and running_head() is None and not stop()
        assert not sessions(), "Ray's folders stay behind"


def double(folder: Path, bad: str = "", how: str = "", compute: Compute = TWO) -> list[dict[str, Any]]:
    make = partial(doubling, bad, how, folder / "log")
    return list(
        map_shards(make, jobs(folder), compute, folder / "done", "doubling", folder / "progress.json")
    )


def test_a_head_that_answers_is_taken_as_it_is(head: str) -> None:
    assert start() == running_head() == head


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch can use the GPU here")
def test_two_workers_are_a_group_that_agrees_beside_a_gpu_that_torch_cannot_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(learn, Lesson(tmp_path, mistake=""), TWO.model_copy(update={"device": "auto"}), tmp_path)
    assert "this Ray cluster has 1 GPU, which torch cannot use on node" in capsys.readouterr().err
    seen = [read_json(tmp_path / f"{rank}.json") for rank in (0, 1)]
    assert [one["sum"] for one in seen] == [[1.0, 3.0, 5.0]] * 2
    assert [one["size"] for one in seen] == [2, 2] and [one["threads"] for one in seen] == [3, 3]
    assert len({one["pid"] for one in seen} | {os.getpid()}) == 3
    assert read_json(tmp_path / "progress.json")["shown"] == {"total": 9.0}


def test_a_users_mistake_in_a_worker_is_the_drivers(tmp_path: Path) -> None:
    interrupts = signal.getsignal(signal.SIGINT)
    with pytest.raises(UserError, match=r"^mqvae.steps is wrong$"):
        one = TWO.model_copy(update={"workers": 1})
        fit(learn, Lesson(tmp_path, mistake="mqvae.steps is wrong"), one, tmp_path)
    assert signal.getsignal(signal.SIGINT) is interrupts  # Ray Train takes Ctrl-C for itself


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch can use the GPU here")
def test_a_gpu_that_is_asked_for_and_torch_cannot_use_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="1 GPU, which torch cannot use .*set compute.device: cpu"):
        double(tmp_path, compute=TWO.model_copy(update={"device": "cuda", "workers": 1}))


def test_a_slip_in_one_worker_is_told_at_once_and_not_tried_again(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="mat1 and mat2 shapes cannot be multiplied"):
        fit(learn, Lesson(tmp_path, mistake="shapes"), TWO, tmp_path)
    assert [(tmp_path / f"tries-{rank}").read_text() for rank in (0, 1)] == ["tried\n"] * 2


def test_a_slip_while_workers_are_made_is_told_at_once_too(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        list(
            map_shards(
                partial(doubling, nonsense=1),
                jobs(tmp_path),
                TWO,
                tmp_path / "done",
                "doubling",
                tmp_path / "p",
            )
        )


def test_a_shard_that_kills_its_worker_is_named_and_the_rest_is_kept_and_equals_one_process(
    tmp_path: Path,
) -> None:
    for name in ("ray", "here"):
        (tmp_path / name).mkdir()
    with pytest.raises(UserError, match=r"doubling: 1 of 4 shards failed \(in/1.txt\): its worker died"):
        double(tmp_path / "ray", bad="1.txt", how="dies")
    log = (tmp_path / "ray" / "log").read_text()
    assert log.count("1.txt") == 3 and [log.count(f"{number}.txt") for number in (0, 2, 3)] == [1, 1, 1]

    here = TWO.model_copy(update={"workers": 0, "threads": 1})
    assert double(tmp_path / "ray", compute=here) == double(tmp_path / "here", compute=here)
    assert (tmp_path / "ray" / "log").read_text().removeprefix(log) == "1.txt\n"
    for number in range(4):
        made = [(tmp_path / name / "out" / f"{number}.txt").read_text() for name in ("ray", "here")]
        assert made[0] == made[1] == str(number) * (2 * number + 2)


def test_asking_for_more_than_the_cluster_has_is_refused_at_once(tmp_path: Path) -> None:
    many = TWO.model_copy(update={"workers": 10_000})
    with pytest.raises(
        UserError, match=r"compute.workers = 10000 needs 10000 CPUs; this Ray cluster has \d+"
    ):
        fit(learn, Lesson(tmp_path, mistake=""), many, tmp_path)
