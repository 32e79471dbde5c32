"""Our FID is clean-fid's: the same images, network and resize give the same number, and a slip anywhere moves it."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks.clean_fid import load_clean_fid
from evaluation.features.extractors import install_pretrained, load_extractor
from evaluation.features.inception import SIDE, WEIGHTS, InceptionExtractor
from evaluation.features.interface import Extractor
from evaluation.metrics.kid import kernel_distance
from evaluation.metrics.statistics import frechet_distance, moments
from tests.evaluation.clean_fid import CHANNELS, write_stand_in
from workspace.errors import UserError
from workspace.exact.manifest import sha256_file

CPU = torch.device("cpu")
Pictures = NDArray[np.uint8]


def pictures(seed: int, count: int = 30, side: int = 72) -> Pictures:
    """Coloured blotches with detail, [count, side, side, 3]; other seeds are another distribution."""
    random = np.random.default_rng(seed)
    coarse = random.normal(size=(count, 6, 6, 3)).repeat(side // 6, axis=1).repeat(side // 6, axis=2)
    values = 110 + 20 * seed * np.array([1.0, 0.2, -0.5]) + 45 * coarse
    return np.clip(values + 20 * random.normal(size=coarse.shape), 0, 255).astype(np.uint8)


def write_folder(folder: Path, images: Pictures) -> Path:
    folder.mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number:04d}.png")
    return folder


def extractor_of(weights: Path, folder: Path) -> Extractor:
    sha256 = sha256_file(weights)
    install_pretrained("inception", weights, sha256, folder)
    return load_extractor(folder, CPU, sha256)


def fid(extractor: Callable[[Pictures], NDArray[np.float32]], a: Pictures, b: Pictures) -> float:
    return frechet_distance(moments(extractor(a)), moments(extractor(b)))


def through_jpeg(images: Pictures) -> Pictures:
    found = []
    for image in images:
        memory = io.BytesIO()
        Image.fromarray(image).save(memory, "JPEG", quality=75)
        found.append(np.asarray(Image.open(memory)))
    return np.stack(found)


def unresized(images: Pictures) -> Pictures:
    """Set into the network's size as they are."""
    rest = SIDE - images.shape[1]
    return np.pad(images, ((0, 0), (0, rest), (0, rest), (0, 0)))


def naively_resized(images: Pictures) -> Pictures:
    """To the network's size by repeating pixels."""
    at = np.arange(SIDE) * images.shape[1] // SIDE
    return images[:, at][:, :, at]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of sqrtm(disp=), which clean-fid uses
def test_fid_equals_clean_fid_on_the_same_folders_and_notices_every_slip(tmp_path: Path) -> None:
    pytest.importorskip("cleanfid")
    clean_fid = load_clean_fid()
    from cleanfid.inception_torchscript import InceptionV3W

    real, made = pictures(0), pictures(1)
    folders = [str(write_folder(tmp_path / name, images)) for name, images in (("a", real), ("b", made))]
    weights = write_stand_in(tmp_path / WEIGHTS)
    network = InceptionV3W(str(tmp_path), download=False)
    theirs = clean_fid.compute_fid(
        *folders,
        custom_feat_extractor=lambda x: network(x)[:, :CHANNELS],  # the others are 0 and add nothing but time
        num_workers=0,
        device=CPU,
        verbose=False,
    )
    extractor = extractor_of(weights, tmp_path / "extractor")

    def ours(images: Pictures) -> NDArray[np.float32]:
        found = extractor(images).features
        assert not found[:, CHANNELS:].any()
        return found[:, :CHANNELS]

    assert fid(ours, real, made) == pytest.approx(theirs, rel=1e-4)
    assert theirs > 0.01
    for slip in (lambda images: images[..., ::-1], through_jpeg, unresized, naively_resized):
        assert abs(fid(ours, real, slip(made)) / theirs - 1) > 1e-2


def test_images_in_memory_are_resized_as_clean_fid_resizes_files(tmp_path: Path) -> None:
    pytest.importorskip("cleanfid")
    load_clean_fid()
    from cleanfid.utils import ResizeDataset

    extractor = extractor_of(write_stand_in(tmp_path / WEIGHTS), tmp_path / "extractor")
    assert isinstance(extractor, InceptionExtractor)
    for side in (18, 72, 306):
        images = pictures(0, 3, side)
        folder = write_folder(tmp_path / f"side-{side}", images)
        read = ResizeDataset(sorted(folder.iterdir()), mode="clean")
        theirs = np.stack([read[number].permute(1, 2, 0).numpy() for number in range(3)])
        np.testing.assert_array_equal(extractor.resized(images), theirs)


def test_images_of_the_networks_size_are_not_touched(tmp_path: Path) -> None:
    pytest.importorskip("cleanfid")
    extractor = extractor_of(write_stand_in(tmp_path / WEIGHTS), tmp_path / "extractor")
    assert isinstance(extractor, InceptionExtractor)
    images = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3), np.uint8)
    np.testing.assert_array_equal(extractor.resized(images), images.astype(np.float32))
    np.testing.assert_allclose(
        extractor.resized(images), np.stack([extractor.resizer(image) for image in images]), atol=1e-3
    )


def test_logits_leave_out_the_bias(tmp_path: Path) -> None:
    pytest.importorskip("cleanfid")
    weights = write_stand_in(tmp_path / WEIGHTS)
    found = extractor_of(weights, tmp_path / "extractor")(pictures(0, 3))
    network = torch.jit.load(str(weights))
    logits = found.features @ network.output.weight.detach().numpy().T
    np.testing.assert_allclose(found.logits["imagenet"], logits, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_random_features_have_clean_fids_distances() -> None:
    pytest.importorskip("cleanfid")
    clean_fid = load_clean_fid()
    random = np.random.default_rng(0)
    mix = random.normal(size=(64, 64))
    a, b = random.normal(size=(700, 64)) @ mix, random.normal(size=(500, 64)) @ (mix + 0.1) + 0.2
    assert frechet_distance(moments(a), moments(b)) == pytest.approx(clean_fid.fid_from_feats(a, b), rel=1e-6)
    x, y = random.normal(size=(700, 64)), random.normal(size=(500, 64)) + 0.1
    ours = kernel_distance(x, y, seed=0)
    assert clean_fid.kernel_distance(x, y, num_subsets=50) == pytest.approx(ours.value, abs=3 * ours.error)
    assert ours.error < 0.3 * ours.value


def test_torchscript_is_loaded_only_by_the_sha256_that_the_settings_name(tmp_path: Path) -> None:
    pytest.importorskip("cleanfid")
    weights = write_stand_in(tmp_path / WEIGHTS)
    for sha256 in (None, "0" * 64):
        with pytest.raises(
            UserError, match=f"its SHA-256 is {sha256_file(weights)}.*expected torchscript_sha256"
        ):
            install_pretrained("inception", weights, sha256, tmp_path / "extractor")
        assert not (tmp_path / "extractor" / WEIGHTS).exists()


def test_torchscript_that_was_swapped_in_an_artifact_is_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cleanfid")
    sha256 = sha256_file(write_stand_in(tmp_path / WEIGHTS))
    extractor_of(tmp_path / WEIGHTS, tmp_path / "extractor")
    with (tmp_path / "extractor" / WEIGHTS).open("ab") as file:
        file.write(b"\0")
    monkeypatch.setattr(torch.jit, "load", lambda *_, **__: pytest.fail("it was loaded"))
    for told in (sha256, None):
        with pytest.raises(UserError, match="is TorchScript, a program, and its SHA-256 is"):
            load_extractor(tmp_path / "extractor", CPU, told)
