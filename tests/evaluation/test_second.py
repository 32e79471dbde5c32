"""Laws of a second network, whose scores are reported beside the first's."""

from pathlib import Path

import pytest

from evaluation.features.reference import Reference
from evaluation.protocol import Protocol
from tests.hostile.table import World
from tests.tiny import small_world
from workspace.exact.manifest import read_json

SECOND = "efficientnet_lite0"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return small_world(tmp_path_factory, tmp_path_factory.mktemp("second") / "world")


def test_both_networks_are_reported_and_the_first_ones_numbers_stay(
    world: World, tmp_path: Path, efficientnet: Path
) -> None:
    real = tmp_path / "reference"
    changes = ("--set", f"reference.second={SECOND}", "--set", "reference.max_images=12")
    alone = ("--set", "reference.max_images=12", "--out", str(tmp_path / "alone"))
    assert world.run("reference", *alone, "--metrics", str(tmp_path / "m-alone")) == "done"
    assert (
        world.run("reference", *changes, "--out", str(real), "--metrics", str(tmp_path / "m-reference"))
        == "done"
    )
    for name, prefix, numbers in (
        ("evaluate", "fd", {"kid", "precision", "recall"}),
        ("reconstruct", "rfd", set()),
    ):
        folders = {}
        for which in ("alone", "reference"):
            folders[which] = tmp_path / f"m-{name}-{which}"
            out = ("--out", str(tmp_path / f"{name}-{which}"), "--metrics", str(folders[which]))
            assert world.run(name, "--reference", str(tmp_path / which), *out) == "done"
        first, both = (read_json(folder / "metrics.json") for folder in folders.values())
        assert {key: both[key] for key in first} == pytest.approx(first, abs=1e-9)
        added = both.keys() - first.keys()
        assert {f"{SECOND}_{part}" for part in {prefix, f"{prefix}_low", f"{prefix}_high", *numbers}} <= added
        assert all(key.startswith(SECOND) for key in added)
        protocol = Protocol.read(folders["reference"])
        assert f"{SECOND}, weights " in protocol.features and "224×224" in protocol.resize
    assert f"{SECOND}_fd_train_val" in read_json(tmp_path / "m-reference" / "metrics.json")
    rows = Reference.open(real).rows("train")
    assert rows.second is not None and rows.second.shape == (12, 1280)


def test_the_same_network_twice_is_refused(world: World, tmp_path: Path, efficientnet: Path) -> None:
    changes = (
        "--set",
        f"reference.second={SECOND}",
        "--set",
        f"reference.features={SECOND}",
        "--out",
        str(tmp_path / "x"),
    )
    assert "and so is params.yaml: reference.features; expected null" in world.run("reference", *changes)
