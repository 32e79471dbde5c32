"""Laws of making image shards: cropping, skipping, resuming, and the same bytes each time."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from settings.shard import ShardSettings
from shards.images import SKIPPED, ImageShards, shard_path
from shards.layouts.listed import ImageList, Location, SourceImage
from shards.making import writing
from shards.making.gathering import Written, write_shards
from shards.making.pictures import Encoding, encode_image, encode_mask
from shards.making.plans import ShardPlan, plan_shards
from shards.making.sources import list_source
from shards.verify import verify
from stages.shard import Inputs, run
from tests.shards.making import encoded, labelled_images, picture, write_pictures
from workspace.errors import UserError
from workspace.runs import RunFolder
from workspace.settings import Compute

COMPUTE = Compute(device="cpu", workers=0, threads=1, loader_workers=0, ray_address="local")
PNG = Encoding(8, "png", 95)
BAD = {"empty.png": b"", "text.jpg": b"this is not an image", "torn.png": encoded(picture(1, (40, 40)))[:900]}


def settings_of(source: object, **changes: object) -> ShardSettings:
    values = {
        "kind": "folder",
        "source": str(source),
        "image_size": 8,
        "format": "png",
        "quality": 95,
        "val_fraction": 0.3,
        "samples_per_shard": 4,
        "max_bad_fraction": 0.0,
        "duplicates": "keep",
        "seed": 0,
    }
    return ShardSettings.model_validate(values | changes)


def run_in(root: Path, settings: ShardSettings) -> ImageShards:
    folder = RunFolder(root)
    for path in (folder.out, folder.work, folder.metrics):
        path.mkdir(parents=True, exist_ok=True)
    run(settings, COMPUTE, Inputs(), folder)
    return ImageShards.open(folder.out)


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@pytest.mark.parametrize("size", [(8, 8), (16, 8), (8, 20), (5, 3), (31, 33)])
def test_any_size_becomes_the_square_that_was_asked(size: tuple[int, int]) -> None:
    made = Image.open(io.BytesIO(encode_image(encoded(picture(0, size)), PNG)))
    assert (made.size, made.mode) == ((8, 8), "RGB")


def test_an_image_of_the_right_size_is_kept_to_the_bit_and_a_wide_one_loses_its_ends() -> None:
    pixels = picture(0, (8, 8))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(encode_image(encoded(pixels), PNG)))), pixels)
    wide = picture(0, (14, 8))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(encode_image(encoded(wide), PNG)))), wide[:, 3:11])


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1", "LA"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    made = io.BytesIO()
    Image.fromarray(picture(0)).convert(mode).save(made, "tiff")
    assert Image.open(io.BytesIO(encode_image(made.getvalue(), PNG))).mode == "RGB"


def test_a_turned_photograph_is_turned_back() -> None:
    made = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.fromarray(picture(0)).save(made, "png", exif=exif)
    got = np.asarray(Image.open(io.BytesIO(encode_image(made.getvalue(), PNG))))
    assert np.array_equal(got, picture(0)[::-1, ::-1])


@pytest.mark.parametrize("size", [(8, 8), (16, 32), (40, 24)])
def test_a_mask_is_resized_and_cropped_with_its_image(size: tuple[int, int]) -> None:
    """A white disc on black is its own mask: after both ways they lie in the same place."""
    width, height = size
    y, x = np.mgrid[0:height, 0:width]
    disc = np.hypot(x - 0.6 * width, y - 0.45 * height) < 0.35 * min(size)
    grey = np.where(disc, 255, 0).astype(np.uint8)
    image = np.asarray(Image.open(io.BytesIO(encode_image(encoded(np.stack([grey] * 3, -1)), PNG))))
    mask = np.asarray(Image.open(io.BytesIO(encode_mask(encoded(grey), 8))))
    assert mask.shape == (8, 8) and mask.dtype == np.uint8
    assert 0 < (mask > 127).sum() < 64
    assert np.mean(np.abs(mask.astype(int) - image[..., 0].astype(int))) < 12
    assert np.mean(np.abs(mask[:, ::-1].astype(int) - image[..., 0].astype(int))) > 24


def test_the_same_source_gives_the_same_bytes_twice(tmp_path: Path) -> None:
    write_pictures(tmp_path / "raw", [f"{number}.png" for number in range(14)], (12, 9))
    first = run_in(tmp_path / "one", settings_of(tmp_path / "raw"))
    second = run_in(tmp_path / "two", settings_of(tmp_path / "raw"))
    assert files_of(first.folder) == files_of(second.folder)
    assert verify(first.folder).endswith("images are intact")
    assert sum(first.facts.counts.values()) == 14


def test_two_processes_give_the_bytes_of_one(tmp_path: Path) -> None:
    plans = plan_shards(ImageList(labelled_images(tmp_path / "raw", 8)), 0.25, 0, 3)
    made = [write_shards(plans, PNG, tmp_path / str(n), 0.0, n, tmp_path / f"{n}.json") for n in (1, 2)]
    assert made[0].sizes == made[1].sizes
    tars = [{k: v for k, v in files_of(tmp_path / str(n)).items() if k.endswith(".tar")} for n in (1, 2)]
    assert tars[0] == tars[1]


def test_a_killed_run_goes_on_and_ends_in_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pictures(tmp_path / "raw", [f"{number}.png" for number in range(14)])
    settings = settings_of(tmp_path / "raw")
    whole = run_in(tmp_path / "whole", settings)
    encode, seen = writing.members_of, list[str]()

    def dies(image: SourceImage, encoding: Encoding, known: None) -> object:
        seen.append(image.name)
        if len(seen) == 7:
            raise KeyboardInterrupt("killed")
        return encode(image, encoding, known)

    monkeypatch.setattr(writing, "members_of", dies)
    with pytest.raises(KeyboardInterrupt, match="killed"):
        run_in(tmp_path / "killed", settings)
    work = RunFolder(tmp_path / "killed").work
    assert shard_path(work, "train", 0).is_file()
    assert not shard_path(work, "train", 1).exists(), "a tar that was begun must not look whole"
    killed_at, seen[:] = len(seen), ["again"] * 100
    again = run_in(tmp_path / "killed", settings)
    assert files_of(again.folder) == files_of(whole.folder)
    assert len(seen) - 100 == 14 - 4, f"the first tar of four was made anew; it was killed at {killed_at}"


def skip(tmp_path: Path, most: float, good: int = 7) -> Written:
    write_pictures(tmp_path / "raw", [f"{number}.png" for number in range(good)])
    for name, data in BAD.items():
        (tmp_path / "raw" / name).write_bytes(data)
    images = list(list_source("folder", str(tmp_path / "raw")).images)
    images.append(SourceImage("gone.png", Location(str(tmp_path / "raw" / "gone.png"))))
    by_split = {"val": images[:2], "train": images[2:]}
    plans = [ShardPlan(split, 0, 0, tuple(found)) for split, found in by_split.items()]
    return write_shards(plans, PNG, tmp_path / "work", most, 1, tmp_path / "progress.json")


def test_bad_files_are_skipped_counted_and_told_by_name_and_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = skip(tmp_path, 0.5)
    assert {row["source"]: row["reason"] for row in written.skipped()} == {
        "empty.png": "not an image",
        "text.jpg": "not an image",
        "torn.png": "truncated",
        "gone.png": "missing",
    }
    assert written.sizes == {"train": (5,), "val": (2,)}
    keys = [row["key"] for row in written.told(written.of("train")[0][0])["rows"]]
    assert keys == sorted(set(keys))
    lines = (tmp_path / "work" / SKIPPED).read_text().splitlines()
    assert [json.loads(line) for line in lines] == list(written.skipped())


def test_more_bad_files_than_allowed_stop_the_stage(tmp_path: Path) -> None:
    with pytest.raises(
        UserError,
        match=r"skipped 4 of 11 images \(36\.4%\): 2 not an image, .*skipped\.jsonl\. More than shard\.max_bad_fraction = 0\.3",
    ):
        skip(tmp_path, 0.3)


def test_a_split_that_loses_all_of_its_images_is_told(tmp_path: Path) -> None:
    write_pictures(tmp_path, ["a.png"])
    (tmp_path / "b.png").write_bytes(b"")
    a, b = list_source("folder", str(tmp_path)).images
    plans = [ShardPlan("train", 0, 0, (a,)), ShardPlan("val", 0, 0, (b,))]
    with pytest.raises(UserError, match="every image of the split val was skipped"):
        write_shards(plans, PNG, tmp_path / "work", 1.0, 1, tmp_path / "progress.json")


@pytest.mark.parametrize("error", [EOFError("x"), KeyError("x"), TypeError("x"), SyntaxError("x")])
def test_whatever_a_decoder_raises_is_a_bad_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def breaks(data: bytes, encoding: Encoding, notes: set[str]) -> bytes:
        raise error

    monkeypatch.setattr(writing, "encode_image", breaks)
    plan = ShardPlan("train", 0, 0, tuple(labelled_images(tmp_path / "raw", 1)))
    told = writing.write_shard(plan, PNG, tmp_path / "work")
    assert told["rows"] == []
    assert told["skipped"][0]["reason"].startswith(type(error).__name__)


def test_names_that_are_no_unicode_are_kept_in_the_index(tmp_path: Path) -> None:
    rows = [{"source": "caf\udce9\u2028.png"}]
    writing.write_lines(tmp_path / "rows.jsonl", rows)
    assert [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()] == rows


def test_real_flowers_become_shards(tmp_path: Path, real: Callable[[str, int], Path]) -> None:
    source = real("flowers", 4)
    shards = run_in(tmp_path / "run", settings_of(source, kind="class_folder", image_size=16, format="jpg"))
    assert shards.facts.classes is not None and len(shards.facts.classes) == 5
    assert sum(shards.facts.counts.values()) == 20
    assert verify(shards.folder).endswith("images are intact")
