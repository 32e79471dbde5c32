"""Laws of scoring images that others made: what they are packed in changes nothing, and no image is lost without a word."""

import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import load_file

from evaluation.given import statistics_of
from evaluation.metrics.statistics import frechet_distance, moments
from evaluation.protocol import Protocol
from shards.images import ImageShards
from shards.npz import arrays_in, export, images_in, write_npz
from shards.pack_samples import pack
from shards.samples import read_samples
from tests.hostile.table import World
from tests.tiny import small_world
from workspace.errors import UserError
from workspace.exact.manifest import read_json, read_manifest, sha256_file


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return small_world(tmp_path_factory, tmp_path_factory.mktemp("foreign") / "world")


def pictures(count: int = 12, side: int = 16) -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def written(folder: Path, images: NDArray[np.uint8], classes: list[str] | None = None) -> Path:
    """PNGs in a folder, or in a folder for each class."""
    for number, image in enumerate(images):
        path = folder / (classes[number] if classes else "") / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return folder


def packed_pixels(folder: Path) -> NDArray[np.uint8]:
    manifest = read_manifest(folder, "samples")
    tars = [folder / name for name in sorted(manifest.files) if name.endswith(".tar")]
    return np.stack([sample.image for tar in tars for sample in read_samples(tar, manifest)])


def test_a_folder_its_tar_its_zip_and_its_npz_have_the_same_scores(world: World, tmp_path: Path) -> None:
    index = ImageShards.open(world.artifact("shards")).index("val")
    real = np.stack([index.read(number).image for number in range(12)])
    folder = written(tmp_path / "images", real)
    with tarfile.open(tmp_path / "images.tar", "w") as tar:
        tar.add(folder, "images")
    with zipfile.ZipFile(tmp_path / "images.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, path.name)
    np.savez(tmp_path / "images.npz", real)
    np.savez_compressed(tmp_path / "small.npz", arr_0=real)
    scores, protocols = [], []
    for name in ("images", "images.tar", "images.zip", "images.npz", "small.npz"):
        out = tmp_path / f"{name}-scores"
        assert world.run("evaluate", "--images", str(tmp_path / name), "--out", str(out)) == "done"
        scores.append(read_json(out / "metrics" / "metrics.json"))
        protocols.append(Protocol.read(out / "metrics"))
    for other in scores[1:]:
        assert other == pytest.approx(scores[0], abs=1e-9)
    assert {"proxy_fd", "proxy_fd_low", "proxy_kid", "proxy_precision"} <= scores[0].keys()
    assert all(protocol.conflicts(protocols[0], frozenset(scores[0])) == [] for protocol in protocols)
    assert protocols[0].count == 12 and "images" in protocols[0].made_from


def test_samples_exported_as_npz_have_the_scores_of_the_samples(world: World, tmp_path: Path) -> None:
    samples, out = world.artifact("samples"), tmp_path / "scores"
    assert export(samples, "val", tmp_path / "samples.npz") == 12
    arrays = arrays_in(tmp_path / "samples.npz")
    images, labels = images_in(arrays, tmp_path / "samples.npz")
    np.testing.assert_array_equal(images, packed_pixels(samples))
    assert labels is not None and len(labels) == 12
    again = ("--export-npz", str(tmp_path / "again.npz"))
    assert (
        world.run("evaluate", "--images", str(tmp_path / "samples.npz"), "--out", str(out), *again) == "done"
    )
    assert sha256_file(tmp_path / "again.npz") == sha256_file(tmp_path / "samples.npz")
    ours, theirs = (
        read_json(world.root / "metrics" / "evaluate" / "metrics.json"),
        read_json(out / "metrics" / "metrics.json"),
    )
    shared = [name for name in ours if name in theirs and "grid" not in name]
    assert {"proxy_fd", "proxy_accuracy", "within_class_variance_ratio"} & set(shared)
    assert {name: theirs[name] for name in shared} == pytest.approx(
        {name: ours[name] for name in shared}, abs=1e-9
    )


def test_real_images_as_npz_stand_in_for_the_reference(world: World, tmp_path: Path) -> None:
    """A reference of images, of statistics, and of both, as ADM's files are."""
    export(world.artifact("shards"), "val", tmp_path / "real.npz")
    reference = world.artifact("reference")
    images = arrays_in(tmp_path / "real.npz")["arr_0"]
    found = load_file(reference / "moments.safetensors")
    statistics = {
        "mu": found["val.mean"],
        "sigma": found["val.covariance"],
        "mu_s": np.zeros(3),
        "sigma_s": np.eye(3),
    }
    np.savez(tmp_path / "statistics.npz", **statistics)
    np.savez(tmp_path / "both.npz", arr_0=images, **statistics)
    ours = read_json(world.root / "metrics" / "evaluate" / "metrics.json")
    for name in ("real", "statistics", "both"):
        out = tmp_path / name
        assert world.run("evaluate", "--real", f"{tmp_path / name}.npz", "--out", str(out)) == "done"
        theirs, protocol = read_json(out / "metrics" / "metrics.json"), Protocol.read(out / "metrics")
        assert theirs["proxy_fd"] == pytest.approx(ours["proxy_fd"], rel=1e-6)
        assert ("proxy_kid" in theirs) == (name != "statistics")
        assert protocol.reference_split == "given"
        assert protocol.reference_count == (len(images) if name == "real" else 0)


def test_equal_images_are_equal_bytes_and_come_back(tmp_path: Path) -> None:
    images = pictures(5, 8)
    for name in ("a", "b"):
        write_npz(tmp_path / f"{name}.npz", 5, 8, ((image, number) for number, image in enumerate(images)))
    assert sha256_file(tmp_path / "a.npz") == sha256_file(tmp_path / "b.npz")
    plain = np.load(tmp_path / "a.npz", allow_pickle=False)
    np.testing.assert_array_equal(plain["arr_0"], images)
    assert plain["arr_1"].tolist() == [0, 1, 2, 3, 4] and plain["arr_1"].dtype == np.int64
    back, labels = images_in(arrays_in(tmp_path / "a.npz"), tmp_path / "a.npz")
    np.testing.assert_array_equal(back, images)
    assert labels is not None and labels.tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(UserError, match="1 of 2 images have a class"):
        write_npz(tmp_path / "c.npz", 2, 8, [(images[0], 1), (images[1], None)])


BAD_NPZ = {
    "floats": ({"arr_0": np.zeros((3, 4, 4, 3), np.float32)}, r"arr_0 is float32 \[3, 4, 4, 3\], expected uint8"),
    "channels first": ({"arr_0": np.zeros((3, 3, 4, 4), np.uint8)}, r"uint8 \[3, 3, 4, 4\], expected uint8 \[N, H, W, 3\]"),
    "grey": ({"arr_0": np.zeros((3, 4, 4), np.uint8)}, r"uint8 \[3, 4, 4\]"),
    "other names": ({"images": np.zeros((3, 4, 4, 3), np.uint8)}, "holds images; expected arr_0"),
    "objects": ({"arr_0": np.array([None, 1], object)}, "holds Python objects, which only pickle reads: refused"),
    "labels of other images": (
        {"arr_0": np.zeros((3, 4, 4, 3), np.uint8), "arr_1": np.zeros(2, np.int64)},
        r"arr_1 is int64 \[2\], expected whole numbers \[3\]",
    ),
    "one-hot labels": (
        {"arr_0": np.zeros((3, 4, 4, 3), np.uint8), "arr_1": np.zeros((3, 2), np.int64)},
        r"arr_1 is int64 \[3, 2\]",
    ),
    "no images": ({"arr_0": np.zeros((0, 4, 4, 3), np.uint8)}, "holds no images"),
    "not square": ({"arr_0": np.zeros((3, 4, 8, 3), np.uint8)}, "8 × 4 pixels"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_NPZ)
def test_an_npz_of_another_layout_is_refused_in_a_line(name: str, tmp_path: Path) -> None:
    arrays, said = BAD_NPZ[name]
    np.savez(tmp_path / "x.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=said):
        pack(tmp_path / "x.npz", tmp_path / "out", None, None)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("place", [0.15, 0.5, 0.7])
def test_a_damaged_npz_is_refused(place: float, tmp_path: Path) -> None:
    write_npz(tmp_path / "x.npz", 4, 8, ((image, None) for image in pictures(4, 8)))
    data = bytearray((tmp_path / "x.npz").read_bytes())
    data[int(len(data) * place)] ^= 0x55
    (tmp_path / "x.npz").write_bytes(data)
    with pytest.raises(UserError, match=r"x\.npz"):
        pack(tmp_path / "x.npz", tmp_path / "out", None, None)
    (tmp_path / "x.npz").write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match=r"x\.npz is not an \.npz that can be read"):
        pack(tmp_path / "x.npz", tmp_path / "out", None, None)


def test_pictures_of_every_mode_are_scored_as_rgb_and_counted(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = written(tmp_path / "images", pictures(1))
    image = Image.fromarray(pictures(1)[0])
    image.convert("L").save(folder / "1-grey.png")
    image.convert("P").save(folder / "2-palette.png")
    image.convert("CMYK").save(folder / "3-cmyk.jpg")
    image.convert("RGBA").save(folder / "4-opaque.png")
    see_through = image.convert("RGBA")
    see_through.putalpha(0)
    see_through.save(folder / "5-transparent.png")
    Image.fromarray(np.full((16, 16), 40_000, np.uint16)).save(folder / "6-deep.png")
    image.save(folder / "7-lossy.jpg", quality=95)
    (folder / "readme.txt").write_text("x")
    (folder / ".DS_Store").write_text("x")
    pack(folder, tmp_path / "out", None, None)
    found = packed_pixels(tmp_path / "out")
    assert len(found) == 8
    np.testing.assert_array_equal(found[4], np.asarray(image))
    assert (found[5] == 255).all() and (found[6] == found[6, 0, 0, 0]).all()
    with Image.open(folder / "7-lossy.jpg") as lossy:
        np.testing.assert_array_equal(found[7], np.asarray(lossy))
    said = " ".join(capfd.readouterr().err.split())
    for line in (
        "2 passed over: 1 .txt: not a picture, 1 hidden file",
        "1 of mode CMYK, made RGB",
        "1 transparent, laid on white",
    ):
        assert line in said, said


def test_pictures_that_cannot_be_scored_are_counted_and_refused(tmp_path: Path) -> None:
    folder = written(tmp_path / "images", pictures(4))
    Image.fromarray(pictures(1, 8)[0]).save(folder / "8-small.png")
    Image.fromarray(pictures(1, 8)[0]).save(folder / "9-small.png")
    (folder / "torn.png").write_bytes((folder / "000.png").read_bytes()[:300])
    (folder / "words.jpg").write_bytes(b"not a picture")
    said = (
        r"4 of 8 images cannot be scored: 2 of 8 × 8 pixels, expected 16 × 16 \(the first: 8-small.png\), 1 truncated "
        r"\(the first: torn.png\), 1 not an image \(the first: words.jpg\); a score is of all images"
    )
    with pytest.raises(UserError, match=said):
        pack(folder, tmp_path / "out", None, None)
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))


def test_folders_named_like_classes_give_classes_where_all_have_one(tmp_path: Path) -> None:
    names = ["ring", "star", "ring"]
    folder = written(tmp_path / "images", pictures(3), names)
    pack(folder, tmp_path / "known", None, ["star", "ring"])
    manifest = read_manifest(tmp_path / "known", "samples")
    found = [sample.record.cls for sample in read_samples(tmp_path / "known" / "000000.tar", manifest)]
    assert found == [1, 1, 0] and manifest.facts["condition"] == "class"
    pack(folder, tmp_path / "unknown", None, ["star", "cross"])
    assert read_manifest(tmp_path / "unknown", "samples").facts["classes"] is None


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ("nothing", "does not exist; expected a folder of images, a tar or zip of them, or an .npz"),
        ("empty", "holds no images; expected"),
        ("words.txt", r"words.txt is one file; expected a folder of images"),
    ],
)
def test_what_holds_no_images_is_refused(made: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "words.txt").write_text("x" * 400)
    with pytest.raises(UserError, match=said):
        pack(tmp_path / made, tmp_path / "out", None, None)


def test_options_that_do_not_fit_are_refused(world: World, tmp_path: Path) -> None:
    folder = written(tmp_path / "images", pictures(12, 8))
    assert "--images needs --out FOLDER" in world.run("evaluate", "--images", str(folder))
    out = ("--out", str(tmp_path / "out"))
    assert "12 of 12 images cannot be scored: 12 of 8 × 8 pixels, expected 16 × 16" in world.run(
        "evaluate", "--images", str(folder), *out
    )
    assert "--images is given 2 times" in world.run("evaluate", "--images", "a", "--images", "b", *out)
    assert "does not exist" in world.run("evaluate", "--real", "nowhere", *out)
    shards = world.run("evaluate", "--real", "artifacts/shards", *out)
    assert (
        "not of samples" in shards and "python -m shards.npz artifacts/shards real.npz --split val" in shards
    )
    few = world.run("evaluate", "--real", str(written(tmp_path / "few", pictures(2))), *out)
    assert "holds 2 images of 16 pixels; expected at least" in few


def test_statistics_of_other_features_are_refused(tmp_path: Path) -> None:
    def saved(**arrays: NDArray[np.float64]) -> Path:
        np.savez(tmp_path / "s.npz", **arrays)  # type: ignore[arg-type]
        return tmp_path / "s.npz"

    rows = np.random.default_rng(0).normal(size=(50, 4))
    right = moments(rows)
    found, _ = statistics_of(saved(mu=right.mean, sigma=right.covariance), "proxy", 4)
    assert frechet_distance(found, right) == pytest.approx(0, abs=1e-9)
    for arrays, said in (
        (
            {"mu": np.zeros(2048), "sigma": np.eye(2048)},
            "statistics of 2,048 features, and reference.features proxy has 4",
        ),
        ({"mu": np.zeros(4)}, "holds mu; expected mu"),
        ({"mu": np.zeros(4), "sigma": np.triu(np.ones((4, 4)))}, "sigma is not symmetric"),
        ({"mu": np.full(4, np.nan), "sigma": np.eye(4)}, "not finite"),
    ):
        with pytest.raises(UserError, match=said):
            statistics_of(saved(**arrays), "proxy", 4)
