"""Laws of the feature extractors."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from evaluation.features.extractors import install_pretrained, load_extractor, score_name
from evaluation.features.inception import SHA256
from evaluation.features.interface import Features
from evaluation.features.labelled import LabelledImages
from evaluation.features.proxy import Proxy, ProxyConfig, ProxyExtractor, save_proxy, train_proxy
from evaluation.perceptual.backbones import SqueezeNet
from workspace.errors import UserError
from workspace.exact.manifest import sha256_file

CPU = torch.device("cpu")
CONFIG = ProxyConfig(width=4, heads={"colour": ("red", "green", "blue"), "shade": ("dark", "light")})


def painted(seed: int, count: int) -> LabelledImages:
    """Images of one colour, dark or light, with noise."""
    random = np.random.default_rng(seed)
    labels = np.stack([random.integers(0, 3, count), random.integers(0, 2, count)], axis=1)
    images = random.integers(0, 40, (count, 8, 8, 3))
    images[np.arange(count), :, :, labels[:, 0]] += (80 + 100 * labels[:, 1])[:, None, None]
    return LabelledImages(images.astype(np.uint8), labels[:, 0], labels.astype(np.int64))


def steps_told(done: int) -> None:
    assert done >= 1


def batches(count: int) -> Iterator[LabelledImages]:
    return (painted(step, 16) for step in range(count))


def trained(seed: int = 0, steps: int = 100) -> Proxy:
    return train_proxy(
        CONFIG, "colour", batches(steps), steps, learning_rate=1e-2, seed=seed, device=CPU, on_step=steps_told
    )


def apply(proxy: Proxy, images: NDArray[np.uint8]) -> Features:
    return ProxyExtractor(proxy, "", CPU)(images)


def test_a_proxy_learns_every_head() -> None:
    held_out = painted(1000, 64)
    found = apply(trained(), held_out.images)
    for column, name in enumerate(CONFIG.heads):
        assert (found.logits[name].argmax(axis=1) == held_out.expected[:, column]).mean() > 0.95


def test_the_same_seed_gives_the_same_proxy_and_another_gives_another() -> None:
    first, again, other = (apply(trained(seed, 3), painted(0, 4).images).features for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_training_a_proxy_leaves_the_global_random_state_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    trained(steps=1)
    assert torch.equal(before, torch.get_rng_state())


def test_a_proxy_is_the_same_after_a_trip_to_disk(tmp_path: Path) -> None:
    proxy, images = trained(steps=3), painted(0, 4).images
    save_proxy(proxy, tmp_path)
    loaded = load_extractor(tmp_path, CPU)
    assert loaded.heads == CONFIG.heads
    assert loaded.dim == 16
    np.testing.assert_array_equal(loaded(images).features, apply(proxy, images).features)


def test_equal_proxies_are_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_proxy(trained(steps=2), tmp_path / name)
    assert sha256_file(tmp_path / "a/extractor.safetensors") == sha256_file(
        tmp_path / "b/extractor.safetensors"
    )


def test_features_of_an_image_do_not_depend_on_its_batch() -> None:
    proxy, images = trained(steps=2), painted(0, 6).images
    together, alone = apply(proxy, images).features, apply(proxy, images[2:3]).features
    np.testing.assert_allclose(together[2:3], alone, atol=1e-6)


def test_larger_images_are_brought_to_the_proxys_size() -> None:
    proxy, images = trained(steps=2), painted(0, 3).images.repeat(4, axis=1).repeat(4, axis=2)
    twice = images.repeat(2, axis=1).repeat(2, axis=2)
    np.testing.assert_allclose(apply(proxy, twice).features, apply(proxy, images).features, atol=1e-5)


def test_squeezenet_recognises_daisies(flowers: Path, squeezenet_weights: Path, tmp_path: Path) -> None:
    install_pretrained("squeezenet", squeezenet_weights, None, tmp_path)
    extractor = load_extractor(tmp_path, CPU)
    daisies = []
    for path in sorted((flowers / "daisy").iterdir())[:16]:
        with Image.open(path) as image:
            daisies.append(np.asarray(image.convert("RGB").resize((224, 224))))
    found = extractor(np.stack(daisies))
    imagenet_daisy = 985
    assert found.features.shape == (16, extractor.dim)
    assert (found.logits["imagenet"].argmax(axis=1) == imagenet_daisy).mean() > 0.5


def test_squeezenet_has_as_many_parameters_as_published() -> None:
    assert sum(parameter.numel() for parameter in SqueezeNet().parameters()) == 1_235_496


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    save_proxy(Proxy(CONFIG), tmp_path)
    with pytest.raises(UserError, match="do not fit SqueezeNet"):
        install_pretrained("squeezenet", tmp_path / "extractor.safetensors", None, tmp_path / "out")


def test_offline_without_weights_says_what_to_fetch_and_where_to_put_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cleanfid")

    def offline(*_: object, **__: object) -> None:
        raise OSError("network unreachable")

    monkeypatch.setattr("urllib.request.urlopen", offline)
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    with pytest.raises(
        UserError, match=r"fetch it elsewhere, put it at weights/inception-2015-12-05\.pt and set reference"
    ):
        install_pretrained("inception", None, SHA256, tmp_path / "extractor")
    with pytest.raises(UserError, match=r"fetch it elsewhere to .*squeezenet1_1-b8a52dc0\.pth"):
        install_pretrained("squeezenet", None, None, tmp_path / "extractor")


def test_only_inception_scores_may_be_called_fid() -> None:
    assert [score_name("inception", name) for name in ("fd", "rfd", "kid")] == ["fid", "rfid", "kid"]
    assert [score_name("proxy", name) for name in ("fd", "rfd")] == ["proxy_fd", "proxy_rfd"]
    assert score_name("squeezenet", "fd") == "squeezenet_fd"
