"""Laws of the stages draw_shapes and shard: the same bytes each time, and mistakes told before any work."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from demo.drawing import KINDS
from settings.shapes import ShapesSettings
from settings.shard import ShardSettings
from shards.images import ImageShards
from shards.verify import verify
from stages import draw_shapes, shard
from workflow.params import load_params
from workspace.errors import UserError
from workspace.exact.manifest import read_manifest
from workspace.exact.tar import TarWriter
from workspace.runs import RunFolder
from workspace.settings import Compute

HERE = Compute(device="cpu", workers=0, threads=1, loader_workers=0, ray_address="local")


def run_folder(path: Path) -> RunFolder:
    folder = RunFolder(path)
    for part in (folder.out, folder.metrics, folder.work):
        part.mkdir(parents=True, exist_ok=True)
    return folder


def draw(path: Path, seed: int = 0) -> Path:
    settings = ShapesSettings(
        seed=seed, image_size=12, train=27, val=9, radius=(0.3, 0.44), texture_contrast=0.4, rotation=15.0
    )
    folder = run_folder(path)
    draw_shapes.run(settings, HERE, draw_shapes.Inputs(), folder)
    return folder.out


def settings_of(source: object, **changes: Any) -> ShardSettings:
    values: dict[str, Any] = {
        "kind": "shapes", "source": str(source), "image_size": 12, "format": "png", "quality": 95,
        "val_fraction": 0.5, "samples_per_shard": 10, "max_bad_fraction": 0.0, "duplicates": "keep", "seed": 0,
    }  # fmt: skip
    return ShardSettings.model_validate(values | changes)


def make_shards(path: Path, settings: ShardSettings) -> ImageShards:
    folder = run_folder(path)
    shard.run(settings, HERE, shard.Inputs(), folder)
    return ImageShards.open(folder.out)


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_shapes_are_the_same_files_twice_and_others_by_another_seed(tmp_path: Path) -> None:
    one, two, other = draw(tmp_path / "1"), draw(tmp_path / "2"), draw(tmp_path / "3", seed=1)
    assert files_of(one) == files_of(two) != files_of(other)
    facts = read_manifest(one, "shapes").facts
    assert facts["counts"] == {"train": 27, "val": 9}
    assert tuple(facts["classes"]) == KINDS


def test_tars_that_were_drawn_before_a_kill_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = files_of(draw(tmp_path / "whole"))
    killed = run_folder(tmp_path / "killed")
    (killed.work / "val").mkdir()
    kept = killed.work / "val" / "000000.tar"
    kept.write_bytes(whole["val/000000.tar"])
    before = kept.stat()
    assert files_of(draw(tmp_path / "killed")) == whole
    assert kept.stat().st_mtime_ns == before.st_mtime_ns


def test_drawn_tars_unpack_to_a_folder_a_class(tmp_path: Path) -> None:
    drawn = draw(tmp_path / "shapes")
    assert sorted(path.relative_to(drawn).as_posix() for path in drawn.rglob("*.tar")) == [
        "train/000000.tar",
        "val/000000.tar",
    ]
    (tmp_path / "looked-at").mkdir()
    subprocess.run(["tar", "-xf", drawn / "val" / "000000.tar", "-C", tmp_path / "looked-at"], check=True)
    found = sorted(
        path.relative_to(tmp_path / "looked-at").as_posix() for path in tmp_path.glob("looked-at/*/*/*.png")
    )
    pictures = [f"val/{kind}/{number:06d}.png" for number, kind in enumerate(KINDS)]
    assert [name for name in found if not name.endswith(".mask.png")] == pictures


def test_shapes_become_shards_with_everything_that_is_known_of_them(tmp_path: Path) -> None:
    drawn = draw(tmp_path / "shapes")
    shards = make_shards(tmp_path / "shards", settings_of(drawn))
    assert shards.facts.counts == {"train": 27, "val": 9}
    assert shards.facts.shards == {"train": (10, 10, 7), "val": (9,)}
    assert (shards.facts.masks, shards.facts.captions, shards.facts.classes) == (True, True, KINDS)
    assert shards.manifest.made_from == {"shapes": read_manifest(drawn, "shapes").fingerprint}
    assert verify(shards.folder).endswith("27 train, 9 val images are intact")
    index = shards.index("val")
    for number, row in enumerate(index.rows()):
        sample = index.read(number)
        assert sample.cls is not None and row.source.split("/")[:2] == ["val", KINDS[sample.cls]]


def test_a_finished_shard_stage_that_is_asked_again_makes_the_same(tmp_path: Path) -> None:
    drawn = draw(tmp_path / "shapes")
    first = files_of(make_shards(tmp_path / "shards", settings_of(drawn)).folder)
    assert files_of(make_shards(tmp_path / "other", settings_of(drawn)).folder) == first


def test_a_tar_of_the_source_that_changes_makes_the_stage_run_again(tmp_path: Path) -> None:
    for name in ("a/0.tar", "b/0.tar"):
        (tmp_path / name).parent.mkdir()
        with TarWriter(tmp_path / name):
            pass
    settings = settings_of(tmp_path / "*" / "0.tar", kind="webdataset")
    assert shard.sources(settings) == [tmp_path / "a" / "0.tar", tmp_path / "b" / "0.tar"]
    assert shard.sources(settings_of("somewhere")) == [Path("somewhere")]


@pytest.mark.parametrize("radius", ["[0.4,0.3]", "[0.3,0.5]"])
def test_a_radius_that_leaves_no_room_is_told(root: Path, radius: str) -> None:
    with pytest.raises(
        UserError, match=r"shapes\.radius is \[0\.\d, 0\.\d\]; expected smallest ≤ largest < 0\.5"
    ):
        load_params(root / "presets" / "tiny.yaml", [f"shapes.radius={radius}"])


def test_shards_of_another_size_than_the_model_takes_are_told_before_any_work(root: Path) -> None:
    with pytest.raises(UserError, match=r"shard\.image_size is 32 and mqvae\.model\.image_size is 16"):
        load_params(root / "presets" / "tiny.yaml", ["shard.image_size=32"])


def test_shards_are_copied_where_links_cannot_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(source: str, target: str) -> None:
        raise OSError("no links here")

    drawn = draw(tmp_path / "shapes")
    linked = make_shards(tmp_path / "linked", settings_of(drawn))
    monkeypatch.setattr("workspace.runs.os.link", refuses)
    copied = make_shards(tmp_path / "copied", settings_of(drawn))
    assert files_of(copied.folder) == files_of(linked.folder)
