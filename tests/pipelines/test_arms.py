"""What a sweep's arms are, which stages they share, and what is in their workspaces."""

import subprocess
from pathlib import Path

import pytest

pytest.importorskip("dvc", reason="DVC is not installed")

from pipelines.arms import Arm, arms_of, needed_here, prepare, touched  # noqa: E402  (needs it)
from pipelines.dag import RefusedError, Step  # noqa: E402


def step(name: str, needs: tuple[str, ...], section: str) -> Step:
    return Step(name, name, needs, True, (Path(name),), frozenset(), frozenset({section}), name)


CHAIN = [step("shard", (), "shard"), step("first", ("shard",), "a"), step("second", ("first",), "b")]


def test_a_grid_is_every_combination_and_a_list_is_taken_as_it_is() -> None:
    made = arms_of(["a.x=1,2", "b.y=[1, 2],[3]"], [], ["c.z=0"])
    assert [arm.settings for arm in made] == [
        ("a.x=1", "b.y=[1, 2]"), ("a.x=1", "b.y=[3]"), ("a.x=2", "b.y=[1, 2]"), ("a.x=2", "b.y=[3]")]  # fmt: skip
    assert made[0].name == "x=1, y=[1, 2]" and made[0].changes == ("c.z=0", "a.x=1", "b.y=[1, 2]")
    listed = arms_of([], ["a.x=1 'b.y=[1, 2]'", "a.x=3"], [])
    assert [arm.settings for arm in listed] == [("a.x=1", "b.y=[1, 2]"), ("a.x=3",)]
    assert len(arms_of(["a.x=1,2"], ["b.y=1", "b.y=2", "b.y=3"], [])) == 6


@pytest.mark.parametrize(
    ("grid", "arms", "message"),
    [
        ([], [], "a sweep needs a grid"),
        (["a.x"], [], "expected KEY=VALUE"),
        (["a.x="], [], "cannot be distinguished"),
        ([], ["a.x"], "expected KEY=VALUE"),
        (["a.x=1,1"], [], "the arm x=1 appears twice"),
    ],
)
def test_what_is_no_sweep_is_told(grid: list[str], arms: list[str], message: str) -> None:
    with pytest.raises(RefusedError, match=message):
        arms_of(grid, arms, [])


def test_a_setting_touches_the_stages_that_read_it_and_all_below_them() -> None:
    assert touched(CHAIN, Arm(("a.x=1",), ("compute.workers=0",))) == {
        "shard": (), "first": ("a.x=1",), "second": ("a.x=1",)}  # fmt: skip
    assert touched(CHAIN, Arm(("a.x=1", "b.y=2"), ()))["second"] == ("a.x=1", "b.y=2")
    assert touched(CHAIN, Arm(("a=1",), ()))["first"] == ("a=1",)


def test_stages_that_some_arm_needs_as_they_are_run_before_the_arms() -> None:
    only_second = [Arm((f"b.y={value}",), ()) for value in range(3)]
    assert [found.name for found in needed_here(CHAIN, only_second)] == ["shard", "first"]
    both = [Arm(("a.x=1",), ()), Arm(("b.y=1",), ())]
    assert [found.name for found in needed_here(CHAIN, both)] == ["shard", "first"]
    assert [found.name for found in needed_here(CHAIN, [Arm(("a.x=1",), ())])] == ["shard"]


def test_an_arms_workspace_is_this_one_with_its_settings_and_names_stay_in_their_place(project: Path) -> None:
    (project / "new.txt").write_text("not yet committed\n")
    (project / "fine.sh").write_text("echo edited > other.txt\n")
    (project / ".gitignore").write_text("/weights\n")
    (project / "weights").mkdir()
    (project / "input.txt").unlink()
    arm = Arm(("other=../../bad.sh",), ("deep.value=5",))
    folder = prepare(arm, project)
    assert folder.parent == project / ".runs" / "sweep"
    assert (folder / "new.txt").read_text() == "not yet committed\n"
    assert (folder / "fine.sh").read_text() == "echo edited > other.txt\n"
    assert not (folder / "input.txt").exists() and (folder / "weights").resolve() == project / "weights"
    assert "other: ../../bad.sh" in (folder / "params.yaml").read_text()
    assert "deep: {value: 5}" in (folder / "params.yaml").read_text()
    assert "other: fine.sh" in (project / "params.yaml").read_text()
    (project / "new.txt").unlink()
    assert prepare(arm, project) == folder and not (folder / "new.txt").exists()
    status = subprocess.run(
        ["git", "status", "--short"], cwd=project, capture_output=True, text=True, check=True
    )
    assert ".runs/sweep" not in status.stdout.replace("?? .runs/", "")


def test_arms_side_by_side_share_the_cores_out(tmp_path: Path) -> None:
    pytest.importorskip("prefect", reason="Prefect is not installed")
    from pipelines.sweep import cores_allow

    (tmp_path / "params.yaml").write_text("compute: {workers: 2, threads: 4096}\n")
    assert cores_allow(tmp_path, []) == 1
    assert cores_allow(tmp_path, ["compute.threads=0"]) == 1
    one_core_an_arm = cores_allow(tmp_path, ["compute.workers=0", "compute.threads=1"])
    assert one_core_an_arm >= cores_allow(tmp_path, ["compute.threads=1"]) >= 1
