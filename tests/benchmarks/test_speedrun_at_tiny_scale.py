"""A race from its clone to its record, on the workflow's own artifacts at tiny scale."""

import shutil
from pathlib import Path

import pytest
import yaml

from benchmarks import speedrun, speedrun_rules
from benchmarks.speedrun_rules import COLUMNS, TRACKS
from tests.tiny import copy_of, finished_repository


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_repository(tmp_path_factory)


def test_a_race_at_tiny_scale_has_every_figure_guided_and_unguided(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, real = copy_of(tiny, tmp_path / "root"), speedrun._run

    def run(folder: Path, *command: str) -> str:
        """`make` gives what is there already: the workflow itself has its own tests."""
        if command[0] != "make":
            return real(folder, *command)
        assert command == ("make", "-o", ".venv/installed", "repro")
        assert yaml.safe_load((folder / "params.yaml").read_text())["stackformer"]["seed"] == 3
        assert not (folder / "artifacts").exists()
        for name in ("artifacts", "metrics"):
            shutil.copytree(tiny / name, folder / name, dirs_exist_ok=True)
        return ""

    monkeypatch.setattr(speedrun, "_run", run)
    monkeypatch.setattr(speedrun, "ROOT", root)
    monkeypatch.setattr(speedrun_rules, "keep_to_cores", lambda: 2)
    entry = speedrun.Entry(TRACKS["first"], root / "presets" / "tiny.yaml", (3,))
    found = speedrun.race(entry, "abc1234", ["a rule"])
    assert not found["record"] and found["rules_broken"] == ["a rule"]
    assert any(text.startswith("psnr is") for text in found["bars_missed"])
    assert COLUMNS.keys() - {"grid_stem"} <= found["mean"].keys()  # at tiny scale a cell is a block
    one = found["runs"]["3"]
    assert one["unguided"]["proxy_fd"] != one["samples"]["proxy_fd"]
    assert {"train_mqvae", "train_stackformer", "evaluate"} <= one["seconds"].keys()
    assert not list(root.glob("tmp*"))
