"""Laws of the race: what breaks a rule is told before anything runs, and a record has every figure of every seed."""

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks import speedrun, speedrun_rules
from benchmarks.speedrun_rules import COLUMNS, TRACKS, Track
from demo.drawing import KINDS
from tests import presets
from tests.committed import ROOT
from workspace.errors import UserError

RECIPES = {
    "presets/speedrun.yaml": "presets/speedrun.yaml",
    "presets/shapes.yaml": "presets/shapes.yaml",
    "params.yaml": "presets/shapes.yaml",
}


def repository(folder: Path) -> Path:
    """A clean one with both tracks' recipes, and the first one's base."""
    for name, source in RECIPES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / source, path)
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@example.invalid"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "recipes"]):
        subprocess.run([*git, *words], cwd=folder, check=True, capture_output=True)
    return folder


def broken(folder: Path, track: str = "first", seeds: tuple[int, ...] = (0, 1, 2)) -> list[str]:
    return speedrun_rules.broken(folder, TRACKS[track], folder / TRACKS[track].params, seeds)


def edited(folder: Path, section: str, change: Mapping[str, Any], track: str = "first") -> Path:
    path = folder / TRACKS[track].params
    values = yaml.safe_load(path.read_text())
    values[section] = values.get(section, {}) | change
    path.write_text(yaml.safe_dump(values))
    subprocess.run(
        ["git", "-c", "user.name=t", "-c", "user.email=t@example.invalid", "commit", "-qam", "edit"],
        cwd=folder, check=True,
    )  # fmt: skip
    return folder


@pytest.mark.parametrize("track", sorted(TRACKS))
def test_the_committed_recipes_keep_the_rules(tmp_path: Path, track: str) -> None:
    assert broken(repository(tmp_path), track) == []


@pytest.mark.parametrize("name", ["README.md", "presets/speedrun.yaml"])
def test_a_tree_with_changes_names_no_record(tmp_path: Path, name: str) -> None:
    folder = repository(tmp_path)
    with (folder / name).open("a") as file:
        file.write("# changed\n")
    assert broken(folder) == [f"the working tree differs from its commit in 1 files ({name})"]


@pytest.mark.parametrize(
    ("section", "change", "told"),
    [
        ("shapes", {"train": 16000}, "shapes.train is 16000, in the race 8000"),
        ("shapes", {"seed": 1}, "shapes.seed is 1, in the race 0"),
        ("reference", {"max_images": 10}, "reference.max_images is 10, in the race 3000"),
        ("sample", {"num_images": 90}, "sample.num_images is 90, in the race 900"),
        ("sample", {"classes": ["circle"]}, "sample.classes is ['circle'], in the race all"),
        ("mqvae", {"init_from": "old"}, "mqvae.init_from is old, in the race None"),
        ("stackformer", {"init_from": "old"}, "stackformer.init_from is old, in the race None"),
        (
            "mqvae",
            {"perceptual": {"network": "squeezenet"}},
            "mqvae.perceptual.network is squeezenet: weights from elsewhere",
        ),
    ],
)
def test_other_data_other_judges_and_weights_from_elsewhere_are_told(
    tmp_path: Path, section: str, change: Mapping[str, Any], told: str
) -> None:
    assert broken(edited(repository(tmp_path), section, change)) == [told]


def test_a_recipe_that_is_not_the_committed_one_and_too_few_seeds_are_told(tmp_path: Path) -> None:
    folder = repository(tmp_path)
    found = speedrun_rules.broken(folder, TRACKS["first"], folder / "params.yaml", (0, 0, 1))
    assert [text.split(",")[0] for text in found] == [
        f"the recipe is {folder / 'params.yaml'}",
        "seeds are 0",
    ]


def test_outside_of_git_there_is_no_record(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a git repository: a record names a commit"):
        broken(tmp_path)


@pytest.mark.parametrize("name", ["artifacts", ".runs", ".dvc/cache"])
def test_a_folder_that_holds_something_made_is_not_fresh(tmp_path: Path, name: str) -> None:
    speedrun_rules.check_fresh(tmp_path)
    (tmp_path / name).mkdir(parents=True)
    with pytest.raises(UserError, match=f"holds {name} before it starts: artifacts are not fresh"):
        speedrun_rules.check_fresh(tmp_path)


def test_a_seed_changes_the_trainings_and_the_sampling_and_nothing_else() -> None:
    before = presets.tree("speedrun")
    after = yaml.safe_load(speedrun.seeded(before, 7))
    assert {name for name in before if before[name] != after[name]} == {"mqvae", "stackformer", "sample"}
    for section in ("mqvae", "stackformer", "sample"):
        assert after[section] == before[section] | {"seed": 7}


def test_bars_are_met_by_the_mean_and_minutes_are_one_of_them() -> None:
    assert speedrun.mean_of([{"psnr": 24.0, "x": 1}, {"psnr": 26.0}]) == {"psnr": 25.0}
    track = Track("second", "params.yaml", {"as_asked": 0.97}, 6.0)
    assert speedrun_rules.missed(track, {"minutes": 5.9, "as_asked": 0.97}) == []
    assert speedrun_rules.missed(track, {"minutes": 6.1, "as_asked": 0.96}) == [
        "as_asked is 0.960, expected at least 0.97",
        "minutes is 6.10, expected at most 6",
    ]
    assert len(speedrun_rules.missed(track, {"minutes": 1.0})) == 1


def test_the_worst_class_is_the_lowest_of_the_kinds() -> None:
    numbers = {f"shape_fit_{kind}": 0.5 + place / 100 for place, kind in enumerate(KINDS)} | {
        "shape_fit_real": 0.1
    }
    assert speedrun_rules.worst(numbers, "shape_fit") == 0.5
    assert speedrun_rules.worst({}, "shape_fit") is None


def test_a_records_line_has_the_tables_columns() -> None:
    found = {
        "record": True, "date": "2026-12-01", "commit": "abc1234", "runs": {"0": {}, "1": {}, "2": {}},
        "mean": {"minutes": 2.5, "psnr": 25.0},
    }  # fmt: skip
    titles = [
        row for row in (ROOT / "docs" / "records.md").read_text().splitlines() if row.startswith("| date ")
    ]
    assert len(titles) == len(TRACKS)
    line = speedrun_rules.line(found)
    for title in titles:
        cells = [cell.strip() for cell in title.split("|")]
        assert cells[5:-2] == list(COLUMNS.values())
        assert len(cells) == len(line.split("|"))
    assert line.startswith("| 2026-12-01 | abc1234 | 2.50 | 0, 1, 2 | 25.00 | – |")
    why = {"record": False, "rules_broken": ["a tree with changes"], "bars_missed": ["psnr"]}
    assert speedrun_rules.line(found | why) == "[speedrun] no record: a tree with changes; psnr"
