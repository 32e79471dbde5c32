"""One sample of `make chaos` and of the full disks: a fan-out stage, an actor and a driver killed, a disk too small."""

import os
import random
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.chaos.disk import fill, may_mount
from tests.chaos.project import LARGER, Project
from tests.chaos.rejoin import Rejoined
from tests.chaos.run import FAN_OUT, Disturbed, Kill, plan
from tests.chaos.two_nodes import TwoNodes
from tests.hostile.table import World

needs_two = pytest.mark.skipif(
    find_spec("ray") is None or (os.cpu_count() or 1) < 2, reason="needs Ray and two cores"
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Up to the tokens, undisturbed."""
    project = Project(tmp_path_factory.mktemp("base"))
    project.write_params(LARGER | {"mqvae": {"steps": 24}})
    world = World(project.folder)
    told = [world.run(stage) for stage in ("draw_shapes", "shard", "train_mqvae", "tokenize")]
    assert told == ["done"] * 4
    return project


@pytest.fixture(scope="module")
def nodes() -> Iterator[TwoNodes]:
    started = TwoNodes()
    yield started
    assert started.stop() == []


@needs_two
@pytest.mark.parametrize("stage", ["tokenize", "shard"])
def test_a_fan_out_stage_whose_actor_and_driver_are_killed_ends_with_the_same_bits(
    base: Project, nodes: TwoNodes, tmp_path: Path, stage: str
) -> None:
    for attempt in range(1, 7):  # a run may be over before its first kill
        folder = tmp_path / f"run-{attempt}"
        disturbed = Disturbed(base, folder, nodes, stage, 2, random.Random(attempt))
        outcome = disturbed.run(["actor", "driver"])
        if outcome.kills:
            break
    assert outcome.kills and outcome.kills[0].target == "actor"
    assert outcome.identical and not outcome.orphans and not outcome.temporary


@pytest.mark.skipif(bool(may_mount()), reason=may_mount() or "-")
def test_a_full_disk_is_told_in_a_line_and_the_stage_goes_on_when_there_is_room(
    base: Project, tmp_path: Path
) -> None:
    found = fill(base, "tokenize", tmp_path, 0.5)
    assert found["exit_status"] == 1 and found["clear"], found
    assert not found["looks_whole"] and found["goes_on"] and found["identical"], found
    assert found["temporary_files"] == []


def test_a_plan_kills_every_target_in_every_stage_that_has_it() -> None:
    runs = plan(40, random.Random(0))
    assert sum(len(targets) for _, _, targets in runs) >= 40
    seen = {(stage, target) for stage, _, targets in runs for target in targets}
    for stage in FAN_OUT:
        assert {(stage, target) for target in ("actor", "raylet", "driver")} <= seen
    for stage in ("train_mqvae", "train_stackformer"):
        assert {(stage, target) for target in ("worker", "raylet", "driver")} <= seen


def test_a_training_that_did_not_grow_back_or_lost_steps_does_not_pass_as_rejoined() -> None:
    kill = Kill("train_stackformer", "raylet", 2, "raylet", 1.0, done=20, checkpoint=20, starts=1)
    groups = [{"steps_done": done, "workers": workers} for done, workers in ((0, 2), (20, 1), (40, 2))]
    good = Rejoined("train_stackformer", 2, [kill], identical=True, bits=True, groups=groups)
    bad = {
        "one kill, one command": replace(good, commands=2),
        "two workers, then one, then two": replace(good, groups=[*groups[:2], {"steps_done": 40, "workers": 1}]),
        "each group continued from the last checkpoint": replace(
            good, groups=[groups[0], {"steps_done": 10, "workers": 1}, groups[2]]
        ),
        "nothing left behind": replace(good, orphans=["ray::RayTrainWorker"]),
        "nothing trained again": replace(good, trained_again=10),
        "the undisturbed run's model": replace(good, bits=False),
    }  # fmt: skip
    assert good.faults() == [] and replace(good, stage="train_mqvae", bits=False).faults() == []
    assert {law: outcome.faults() for law, outcome in bad.items()} == {law: [law] for law in bad}
