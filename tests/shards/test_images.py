"""Laws of image shards: what is written is read, in order and by offset; damage is named."""

import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shards.images import SPLITS, ImageIndex, ImageSample, ImageShards, decode, read_shard
from shards.verify import same
from tests.shards.making import (
    COLOURS,
    KINDS,
    labelled_images,
    make_shards,
    mask_of,
    picture,
    rows_of,
    write_index,
)
from workspace.errors import UserError
from workspace.exact.manifest import write_manifest


def samples_of(shards: ImageShards, split: str) -> list[ImageSample]:
    return [sample for path in shards.paths(split) for sample in read_shard(path)]


def test_png_shards_give_back_image_class_captions_attributes_and_mask(labelled: ImageShards) -> None:
    for split in SPLITS:
        rows = list(labelled.index(split).rows())
        samples = samples_of(labelled, split)
        assert len(samples) == labelled.count(split) == len(rows)
        for row, sample in zip(rows, samples, strict=True):
            number = int(Path(row.source).stem)
            assert (number % 4 == 3) == (split == "val")
            assert sample.key == row.key
            assert np.array_equal(sample.image, picture(number))
            assert sample.mask is not None and np.array_equal(sample.mask, mask_of(picture(number)))
            assert sample.cls == number % 2
            assert sample.captions == (f"a {KINDS[number % 2]}", f"number {number}, größer × 2")
            assert sample.attributes == {"kind": KINDS[number % 2], "colour": COLOURS[number // 2 % 2]}


def test_every_image_of_the_source_is_there_once(labelled: ImageShards) -> None:
    sources = [row.source for split in SPLITS for row in labelled.index(split).rows()]
    assert sorted(sources) == sorted(f"{number}.png" for number in range(16))


@pytest.mark.parametrize("split", SPLITS)
def test_reading_by_offset_equals_reading_in_order(labelled: ImageShards, split: str) -> None:
    index, inline = labelled.index(split), samples_of(labelled, split)
    assert [sample.key for sample in inline] == [f"{number:07d}" for number in range(len(index))]
    for number in reversed(range(len(index))):
        assert same(index.read(number), inline[number])


def test_the_indices_of_tars_partition_the_split(labelled: ImageShards) -> None:
    index = labelled.index("train")
    ranges = [index.indices_of(path) for path in labelled.paths("train")]
    assert [number for found in ranges for number in found] == list(range(len(index)))
    assert index.shard_sizes == tuple(len(found) for found in ranges) == (3, 3, 3, 3)


def test_an_index_goes_to_another_process_without_its_open_files(labelled: ImageShards) -> None:
    index = labelled.index("val")
    first = index.read(0)
    copy: ImageIndex = pickle.loads(pickle.dumps(index))  # what DataLoader does
    assert same(copy.read(0), first)


def test_a_missing_tar_is_named(labelled: ImageShards) -> None:
    index = labelled.index("train")
    labelled.paths("train")[1].unlink()
    assert index.read(0).key == "0000000"
    with pytest.raises(UserError, match=r"train/000001\.tar does not exist: run `dvc repro shard`"):
        index.read(3)
    with pytest.raises(UserError, match=r"train/000001\.tar is missing, but its manifest says"):
        ImageShards.open(labelled.folder)


def test_a_short_tar_is_named(labelled: ImageShards) -> None:
    path = labelled.paths("val")[0]
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(UserError, match=r"val/000000\.tar ends inside 0000002\."):
        labelled.index("val").read(2)
    with pytest.raises(UserError, match=r"000000\.tar is (missing or damaged|truncated)"):
        list(read_shard(path))
    with pytest.raises(UserError, match=r"val/000000\.tar has 700 bytes"):
        ImageShards.open(labelled.folder)


def test_an_index_of_another_length_than_the_manifest_says_is_named(labelled: ImageShards) -> None:
    rows = [row for row in rows_of(labelled, "val") if row["tar"] == 0]
    write_index(labelled.folder, "val", rows, [3])
    with pytest.raises(UserError, match=r"val\.index\.npy has 3 records, its manifest says 4 samples"):
        labelled.index("val")


def test_no_manifest_no_artifact(labelled: ImageShards) -> None:
    (labelled.folder / "manifest.json").unlink()
    with pytest.raises(UserError, match="holds no finished artifact"):
        ImageShards.open(labelled.folder)


def test_a_sample_without_an_image_is_named() -> None:
    with pytest.raises(UserError, match="the sample k7 has no image; its members are cls"):
        decode("k7", {"cls": b"1"})


def test_another_size_than_the_model_takes_is_told(labelled: ImageShards) -> None:
    labelled.require(image_size=8)
    with pytest.raises(UserError, match=r"holds images of 8 px, and mqvae\.model\.image_size is 16"):
        labelled.require(image_size=16)


def test_equal_sources_give_equal_bytes_wherever_they_lie(tmp_path: Path, labelled: ImageShards) -> None:
    other = make_shards(labelled_images(tmp_path / "elsewhere" / "raw", 16), tmp_path / "again")
    assert other.manifest.fingerprint == labelled.manifest.fingerprint
    for name in labelled.manifest.files:
        assert (other.folder / name).read_bytes() == (labelled.folder / name).read_bytes()


def test_the_manifest_states_facts_and_no_path_of_this_machine(tmp_path: Path, labelled: ImageShards) -> None:
    assert ImageShards.open(labelled.folder).facts == labelled.facts
    assert labelled.facts.counts == {"train": 12, "val": 4}
    text = (labelled.folder / "manifest.json").read_text()
    assert str(tmp_path) not in text
    assert set(json.loads(text)["files"]) == {
        path.relative_to(labelled.folder).as_posix()
        for path in labelled.folder.rglob("*")
        if path.is_file() and path.name != "manifest.json"
    }


def test_a_moved_artifact_reads_the_same(tmp_path: Path, labelled: ImageShards) -> None:
    before = labelled.index("train").read(5)
    shutil.move(labelled.folder, tmp_path / "moved")
    assert same(ImageShards.open(tmp_path / "moved").index("train").read(5), before)


def test_same_sees_a_difference_in_every_field(labelled: ImageShards) -> None:
    sample = labelled.index("train").read(0)
    changes = {
        "key": "other",
        "image": 255 - sample.image,
        "cls": 1 - (sample.cls or 0),
        "captions": (),
        "attributes": None,
        "mask": None,
    }
    assert same(sample, sample)
    for name, value in changes.items():
        assert not same(sample, replace(sample, **{name: value})), name  # type: ignore[arg-type]


def test_a_manifest_without_the_facts_is_told_in_words(labelled: ImageShards) -> None:
    write_manifest(labelled.folder, "image-shards", {"kind": "folder"}, {})
    with pytest.raises(UserError, match="is wrong about the facts of image shards"):
        ImageShards.open(labelled.folder)
