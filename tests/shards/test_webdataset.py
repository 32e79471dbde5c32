"""The library's plain readers open our shards, and ours read what it, img2dataset and `tar` wrote; the same bytes each time."""

import io
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset

from shards.images import SPLITS, ImageShards, read_shard
from shards.layouts.listed import Source
from shards.making.sources import list_source
from tests.shards.making import encoded, labelled_images, make_shards, picture
from workspace.errors import UserError
from workspace.exact.tar import TarWriter, iterate_tar, read_samples


def plain(path: Path) -> list[dict[str, Any]]:
    """What webdataset itself reads, in order."""
    return list(webdataset.WebDataset(str(path), shardshuffle=False))


@pytest.fixture
def shards(tmp_path: Path) -> ImageShards:
    return make_shards(labelled_images(tmp_path / "source", 8), tmp_path / "shards")


def test_plain_webdataset_reads_our_image_shards_member_by_member(shards: ImageShards) -> None:
    for path in (path for split in SPLITS for path in shards.paths(split)):
        theirs, ours = plain(path), list(read_samples(path))
        assert [sample["__key__"] for sample in theirs] == [key for key, _ in ours]
        for sample, (_, members) in zip(theirs, ours, strict=True):
            assert {name: data for name, data in sample.items() if not name.startswith("__")} == members


def test_plain_webdataset_decodes_our_pictures_to_the_same_pixels_and_classes(shards: ImageShards) -> None:
    for path in shards.paths("train"):
        decoded = webdataset.WebDataset(str(path), shardshuffle=False).decode("rgb8")
        for theirs, ours in zip(decoded, read_shard(path), strict=True):
            assert np.array_equal(theirs["png"], ours.image) and theirs["cls"] == ours.cls
            assert tuple(theirs["txt"].splitlines()) == ours.captions


def test_its_own_writer_given_the_same_gives_the_bytes_of_ours(tmp_path: Path) -> None:
    members = [("a", {"cls": b"3", "png": b"x" * 700}), ("b/c", {"json": b"{}", "mask.png": bytes(20_480)})]
    with TarWriter(tmp_path / "ours.tar") as ours:
        for key, extensions in members:
            for extension, data in extensions.items():
                ours.add(f"{key}.{extension}", data)
    pattern = str(tmp_path / "theirs-%d.tar")
    settings = {"user": "", "group": "", "mode": 0o644, "mtime": 0, "encoder": False, "verbose": 0}
    with webdataset.ShardWriter(pattern, **settings) as theirs:
        for key, extensions in members:
            theirs.write({"__key__": key, **extensions})
    assert (tmp_path / "ours.tar").read_bytes() == (tmp_path / "theirs-0.tar").read_bytes()


@pytest.mark.parametrize("name", ["noextension", ".png", "a._hidden", "grün.png", "x" * 98 + ".png"])
def test_a_name_that_webdataset_would_leave_out_or_lengthen_is_refused(tmp_path: Path, name: str) -> None:
    with TarWriter(tmp_path / "a.tar") as tar, pytest.raises(ValueError, match="is not KEY.EXTENSION"):
        tar.add(name, b"")


def shard_writer(folder: Path) -> None:
    """As webdataset's manual shows it: encoder and owner left as they are."""
    with webdataset.ShardWriter(str(folder / "train-%06d.tar"), maxcount=3, verbose=0) as sink:
        for number in range(6):
            sink.write({"__key__": f"sample{number:04d}", "png": picture(number), "cls": number % 2})


def img2dataset(folder: Path) -> None:
    """KEY.jpg, KEY.txt, KEY.json, keys of nine digits, a _stats.json and a .parquet beside each tar."""
    for shard in range(2):
        with tarfile.open(folder / f"{shard:05d}.tar", "w") as tar:
            for row in range(3):
                key = f"{shard:05d}{row:04d}"
                told = f'{{"caption": "number {row}", "url": "http://x/{row}.jpg", "key": "{key}", "status": "success"}}'
                for extension, data in (
                    ("jpg", encoded(picture(row), "jpeg")),
                    ("json", told.encode()),
                    ("txt", f"number {row}".encode()),
                ):
                    info = tarfile.TarInfo(f"{key}.{extension}")
                    info.size, info.mtime, info.uname = len(data), 1_700_000_000, "someone"
                    tar.addfile(info, io.BytesIO(data))
        (folder / f"{shard:05d}_stats.json").write_text('{"count": 3, "successes": 3}')


def gnu_tar(folder: Path) -> None:
    """`tar --sort=name` of a folder, which writes the folder too."""
    files = folder / "files" / "d"
    files.mkdir(parents=True)
    for number in range(6):
        (files / f"{number}.png").write_bytes(encoded(picture(number)))
        (files / f"{number}.cls").write_text(f"{number % 2}")
    command = ["tar", "--sort=name", "-C", str(folder / "files"), "-cf", str(folder / "0.tar"), "d"]
    subprocess.run(command, check=True)
    shutil.rmtree(folder / "files")


WRITERS = {"ShardWriter": shard_writer, "img2dataset": img2dataset, "tar --sort=name": gnu_tar}


@pytest.mark.parametrize("writer", WRITERS)
def test_shards_of_other_writers_are_a_source_in_their_order(tmp_path: Path, writer: str) -> None:
    if writer.startswith("tar") and shutil.which("tar") is None:
        pytest.skip("needs GNU tar")
    WRITERS[writer](tmp_path)
    source: Source = list_source("webdataset", str(tmp_path / "*.tar"))
    assert len(source.images) == 6
    by_key = [sample for path in sorted(tmp_path.glob("*.tar")) for sample in plain(path)]
    pictures = [sample.get("png") or sample["jpg"] for sample in by_key]
    assert [image.data.read() for image in source.images] == pictures
    if writer == "img2dataset":
        assert [image.captions for image in source.images] == [(f"number {row}",) for row in range(3)] * 2
    else:
        assert [image.cls for image in source.images] == [0, 1] * 3


def test_what_webdataset_passes_over_in_silence_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for name in ("a.png", "__meta__", "b.png"):
            info = tarfile.TarInfo(name)
            info.size = 3
            tar.addfile(info, io.BytesIO(b"abc"))
    assert [sample["__key__"] for sample in plain(tmp_path / "a.tar")] == ["a", "b"]
    with pytest.raises(UserError, match="is truncated or damaged after a.png"):
        list(iterate_tar(tmp_path / "a.tar"))


def test_a_member_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    with TarWriter(tmp_path / "a.tar") as tar:
        for _ in range(2):
            tar.add("a.png", b"x")
    with pytest.raises(UserError, match=r"a\.tar is missing or damaged .*duplicate file name"):
        list(read_samples(tmp_path / "a.tar"))
