"""Tars in a home: the same set, read by every route, while DVC's folder holds none of them."""

import hashlib
import os
import pickle
import shutil
import subprocess
from contextlib import chdir
from pathlib import Path

import numpy as np
import pytest

from shards.home import clean, sets_in
from shards.images import SPLITS, ImageShards
from shards.images.home import set_name
from shards.making.settling import require_tars
from shards.verify import verify
from tests.committed import ROOT
from tests.field.counting import Sharded, sharded
from tests.hostile.table import flipped
from tests.shards.making import write_pictures
from tests.tiny import run
from workspace.errors import UserError
from workspace.exact.homes import HOME
from workspace.exact.manifest import NAME
from workspace.fingerprints import input_fingerprint
from workspace.runs import mark_done, mend

AGAIN = "dvc repro --force --single-item shard"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    write_pictures(folder, [f"{number:02d}.png" for number in range(16)])
    return folder


@pytest.fixture
def homed(source: Path, tmp_path: Path) -> Sharded:
    return sharded(source, tmp_path / "run", home=str(tmp_path / "home"))


def tars(folder: Path) -> dict[str, Path]:
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*.tar"))}


def pixels(shards: ImageShards) -> list[bytes]:
    """Every image, in order, read whole and by offset."""
    whole = [s.image for split in SPLITS for tar in shards.paths(split) for s in shards.samples(tar)]
    indices = [pickle.loads(pickle.dumps(shards.index(split))) for split in SPLITS]  # noqa: S301
    placed = [index.read(number).image for index in indices for number in range(len(index))]
    np.testing.assert_array_equal(whole, placed)
    assert len(whole) == 16
    return [image.tobytes() for image in whole]


def test_a_set_is_the_same_with_its_tars_at_home_or_beside(
    source: Path, tmp_path: Path, homed: Sharded
) -> None:
    beside = sharded(source, tmp_path / "beside")
    assert {path.name for path in homed.folder.out.iterdir()} == (
        {path.name for path in beside.folder.out.iterdir()} - set(SPLITS) | {HOME}
    )
    assert (homed.folder.out / NAME).read_bytes() == (beside.folder.out / NAME).read_bytes()
    assert input_fingerprint(homed.folder.out) == input_fingerprint(beside.folder.out)
    home = tmp_path / "home" / set_name(homed.folder.out)
    there, here = tars(home), tars(beside.folder.out)
    assert there.keys() == here.keys() and len(there) == 5
    assert all(there[name].read_bytes() == here[name].read_bytes() for name in there)
    assert pixels(homed.shards) == pixels(beside.shards)
    assert "9 train, 7 val images are intact" in verify(homed.folder.out)


def test_a_relative_home_is_found_from_a_copy_inside_the_repository(source: Path, tmp_path: Path) -> None:
    with chdir(tmp_path):
        made = sharded(source, tmp_path / "artifacts" / "run", home="tars/deep")
        assert (tmp_path / "tars" / "deep" / set_name(made.folder.out)).is_dir()
        copied = shutil.copytree(
            made.folder.out, tmp_path / ".dvc" / "tmp" / "exps" / "a" / "artifacts" / "shards"
        )
    assert pixels(ImageShards.open(copied)) == pixels(made.shards)
    with chdir(tmp_path / ".dvc" / "tmp" / "exps" / "a"):
        sharded(source, Path("other"), home="tars/deep", image_size=4)
    assert (
        not Path(".dvc/tmp/exps/a/tars").exists() and len(list((tmp_path / "tars" / "deep").iterdir())) == 2
    )


@pytest.mark.parametrize("damage", ["missing", "home missing", "shorter", "another byte", "no home named"])
def test_a_tar_that_is_not_the_manifests_is_noticed_by_its_readers(
    homed: Sharded, tmp_path: Path, damage: str
) -> None:
    tar = tars(tmp_path / "home")[f"{set_name(homed.folder.out)}/train/000001.tar"]
    data = tar.read_bytes()
    tar.unlink()
    if damage == "home missing":
        shutil.rmtree(tmp_path / "home")
    elif damage == "shorter":
        tar.write_bytes(data[:-512])
    elif damage == "another byte":
        tar.write_bytes(flipped(data, 700))
    elif damage == "no home named":
        (homed.folder.out / HOME).write_bytes(b"\xff\n")
    match = {
        "missing": f"train/000001.tar of .* is not in its home .*{AGAIN}",
        "home missing": f"is not in its home .*{AGAIN}",
        "shorter": f"has [0-9,]+ bytes, but its manifest says .*{AGAIN}",
        "another byte": "was changed",
        "no home named": f"does not name a folder in one line: .*{AGAIN}",
    }[damage]
    shards = ImageShards.open(homed.folder.out)  # looks at no tar
    with pytest.raises(UserError, match=match):
        list(shards.samples(shards.paths("train")[1]))
    with pytest.raises(UserError, match=match):
        verify(homed.folder.out)
    with pytest.raises(UserError, match=match):
        [shards.index("train").read(number) for number in range(shards.count("train"))]


def test_on_another_disk_one_copy_is_kept_and_used_again(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.link

    def link(one: str | Path, other: str | Path) -> None:
        if (tmp_path / "home" in Path(one).parents) != (tmp_path / "home" in Path(other).parents):
            raise OSError("another disk")
        real(one, other)

    monkeypatch.setattr(os, "link", link)
    made = sharded(source, tmp_path / "run", home=str(tmp_path / "home"))
    before = pixels(made.shards)
    mine = tars(made.folder.work)
    assert len(mine) == 5 and all(path.is_symlink() for path in mine.values())
    shutil.rmtree(made.folder.out)  # killed before it was done: the same again
    again = sharded(source, tmp_path / "run", home=str(tmp_path / "home"))
    assert pixels(again.shards) == before
    assert all(path.is_symlink() and path.exists() for path in tars(made.folder.work).values())
    shutil.rmtree(made.folder.out)
    moved = sharded(source, tmp_path / "run", home=str(tmp_path / "home" / "inner"))
    assert (moved.folder.out / HOME).read_text() == f"{tmp_path / 'home' / 'inner'}\n"
    shutil.rmtree(tmp_path / "home" / set_name(moved.folder.out))
    assert pixels(moved.shards) == before


def test_a_finished_run_whose_home_lacks_a_tar_is_run_again(homed: Sharded, tmp_path: Path) -> None:
    mark_done(homed.folder)
    assert mend(homed.folder, require_tars) == "" and homed.folder.done
    tars(tmp_path / "home")[f"{set_name(homed.folder.out)}/val/000001.tar"].unlink()
    assert mend(homed.folder, require_tars) == f"{tmp_path / 'home'} lacks val/000001.tar"
    assert not homed.folder.done and len(tars(homed.folder.work)) == 5  # nothing is encoded again


def test_a_home_keeps_the_sets_that_a_manifest_names_and_no_others(source: Path, tmp_path: Path) -> None:
    home, repository = tmp_path / "home", tmp_path / "repository"
    made = {
        name: sharded(source, tmp_path / name, home=str(home), seed=seed).folder.out
        for seed, name in enumerate(("artifact", "run", "commit", "shared", "forgotten"))
    }
    shutil.copytree(made["artifact"], repository / "artifacts" / "shards")
    shutil.copytree(made["run"], repository / ".runs" / "shard" / "0123" / "out")
    shutil.copytree(made["shared"], tmp_path / "another" / "artifacts" / "shards")
    subprocess.run(["git", "init", "-q"], cwd=repository, check=True)
    run(repository, "dvc", "init", "-q", code=ROOT)
    md5 = hashlib.md5((made["commit"] / NAME).read_bytes()).hexdigest()  # noqa: S324
    cached = repository / ".dvc" / "cache" / "files" / "md5" / md5[:2] / md5[2:]
    cached.parent.mkdir(parents=True)
    shutil.copyfile(made["commit"] / NAME, cached)
    (home / "0123456789abcdef" / "train").mkdir(parents=True)  # a process writes there now
    (home / "mine").mkdir()  # and this is no set
    names = {set_name(folder): name for name, folder in made.items()} | {"0123456789abcdef": "now"}
    keep = [repository, tmp_path / "another"]
    found = {names[one.name]: one.named for one in sets_in(home, keep)}
    assert {name for name, named in found.items() if not named} == {"forgotten"}
    assert found["commit"] == "another commit, in DVC's cache" and found["now"] == "being made"
    assert clean(sets_in(home, keep)) == 1 and clean(sets_in(home, keep)) == 0
    left = {path.name for path in home.iterdir()}
    assert left == names.keys() - {set_name(made["forgotten"])} | {"mine"}
    assert len(pixels(ImageShards.open(repository / "artifacts" / "shards"))) == 16
    with pytest.raises(UserError, match="is not a folder; expected a home of tars"):
        sets_in(tmp_path / "nothing", keep)
