"""What a step gives does not depend on the micro-batch, but for what params.yaml says beside it; nor does a validation."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.mqvae import quantizer
from models.mqvae.masker import Masker
from models.mqvae.quantizer import Quantizer
from settings.mqvae import MQVAESettings
from tests.training import test_mqvae_training as images
from tests.training import test_stackformer_training as tokens
from training.loop.train import train
from training.stackformer.batches import TokenBatches


def perceptual(a_BCHW: Tensor, b_BCHW: Tensor) -> Tensor:
    """A distance of features, averaged over pairs as LPIPS is."""
    return (a_BCHW.flatten(1).cumsum(1) - b_BCHW.flatten(1).cumsum(1)).square().mean(1).sqrt().mean()


def learned(path: Path, settings: MQVAESettings, config: images.MQVAEConfig) -> dict[str, Tensor]:
    """Weights, averages, discriminator and codebook after 20 steps in float64."""
    subject = images.training_module(config=config)
    subject.settings, subject.perceptual = settings, perceptual
    train(subject, images.batches(settings), settings, images.Alone(), images.folder(path))
    found = {f"{name}/{k}": v for name, m in subject.modules.items() for k, v in m.state_dict().items()}
    terms = (
        "loss",
        "l1",
        "perceptual",
        "commitment",
        "discriminator",
        "codebook_perplexity",
        "codes_restarted",
    )
    told = {name: torch.tensor(images.losses(path, name)) for name in terms}
    shown = {name: torch.tensor(images.losses(path, name, "validation.tsv")) for name in ("psnr", "l1")}
    return found | told | {f"validation/{name}": value for name, value in shown.items()}


def constant_weight(rec: Tensor, adv: Tensor, highest: float) -> Tensor:
    """In the adaptive weight's place, which belongs to a micro-batch."""
    return torch.full_like(rec.norm(), 0.3)


@pytest.mark.parametrize(
    ("kind", "kept"), [("ema", "fixed"), ("gradient", "fixed"), ("simvq", "fixed"), ("ema", "any")]
)
def test_twenty_steps_of_an_mqvae_do_not_depend_on_the_micro_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, kept: str
) -> None:
    """With exploration, perceptual loss of random views, hinge loss, commitment, first codes and restarts of dead ones."""
    monkeypatch.setattr("training.mqvae.module.adaptive_weight", constant_weight)
    picky = dataclasses.replace(images.CONFIG.quantizer, kind=kind, restart_below=0.9)
    config = dataclasses.replace(images.CONFIG, quantizer=picky, kept=kept)
    loss = dataclasses.replace(images.LOSS, perceptual=0.2, perceptual_scale=2, perceptual_shift=3)
    settings = images.TRAINING.replaced(loss=loss)
    found = [learned(tmp_path / str(size), settings.replaced(micro_batch=size), config) for size in (2, 8)]
    assert found[0]["discriminator"][-1] > 0 and (kind != "ema" or found[0]["codes_restarted"].sum() > 0)
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-6, atol=1e-9)


def test_thirty_steps_of_a_stackformer_do_not_depend_on_the_micro_batch(tmp_path: Path) -> None:
    found = []
    for size in (4, 8, 16):
        plan = tokens.TRAINING.replaced(precision="float64", micro_batch=size)
        learner = tokens.training_module(plan)
        batches = TokenBatches(tokens.tokens(), tokens.CLASSES, plan, tokens.OneOf())
        train(learner, batches, plan, tokens.OneOf(), tokens.folder(tmp_path / str(size)))
        found.append(dict(learner.ema.model.state_dict()))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("size", [1, 3, 12])
def test_exploration_keeps_the_cells_of_an_image_whatever_stands_beside_it(size: int) -> None:
    torch.manual_seed(0)
    masker = Masker(6, 5, "adaptive", 4).double()
    z_BLD = torch.randn(12, 16, 6, dtype=torch.float64) * torch.logspace(-2, 2, 12)[:, None, None]
    noise_BL = torch.randn(12, 16, dtype=torch.float64)
    whole = masker(z_BLD, noise_BL, 2.0).positions_BN
    parts = [
        masker(z, n, 2.0).positions_BN for z, n in zip(z_BLD.split(size), noise_BL.split(size), strict=True)
    ]
    assert torch.equal(torch.cat(parts), whole)


def test_exploration_of_a_grid_of_one_cell_keeps_it() -> None:
    masker = Masker(6, 1, "adaptive", 4)
    assert masker(torch.randn(2, 1, 6), torch.randn(2, 1), 2.0).positions_BN.tolist() == [[0], [0]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rows", [1, 7, 64, 1000])
def test_codes_searched_in_tiles_are_those_of_the_whole_matrix(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, rows: int
) -> None:
    layer = Quantizer(images.CONFIG.quantizer, 50, 8)
    layer.codebook_KD[7] = layer.codebook_KD[3]  # equally near: the first of them
    z_BND = torch.randn(5, 40, 8, dtype=dtype) / 50
    whole = (layer.codebook_KD.to(dtype).square().sum(-1) - 2 * z_BND @ layer.codebook_KD.to(dtype).T).argmin(
        -1
    )
    monkeypatch.setattr(quantizer, "TILE", rows * 50)
    assert torch.equal(layer.nearest(z_BND), whole) and not (whole == 7).any()


def test_a_search_among_many_codes_holds_a_tile_and_not_the_matrix() -> None:
    layer, largest = Quantizer(images.CONFIG.quantizer, 65536, 4), [0]

    class Sizes(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            out = func(*args, **(kwargs or {}))
            largest[0] = max(largest[0], out.numel() if isinstance(out, Tensor) else 0)
            return out

    with Sizes():
        layer.nearest(torch.randn(2, 300, 4))
    assert largest[0] == quantizer.TILE < 600 * 65536


@pytest.mark.parametrize("mask", ["adaptive", "random"])
def test_validation_is_the_same_in_any_batches_and_draws_the_same_pictures(mask: str) -> None:
    config, seen = dataclasses.replace(images.CONFIG, mask=mask), list[tuple[Tensor, Tensor]]()
    subject = images.training_module(config=config)
    sizes: list[int] = []
    run: Callable[..., images.MQVAEOutput] = subject.ema.model.forward
    subject.ema.model.forward = lambda image, ranking: (sizes.append(len(image)), run(image, ranking))[1]  # type: ignore[method-assign]
    subject.draw = lambda step, image, output: seen.append((image[:8], output.reconstruction_BCHW[:8]))
    numbers = []
    for size in (1, 3, 8, 64):
        subject.settings = images.TRAINING.replaced(micro_batch=size)
        sizes.clear()
        numbers.append(subject.validate(0))
        assert max(sizes) <= size and sum(sizes) == 16
    for other in numbers[1:]:
        assert other == pytest.approx(numbers[0], rel=1e-9)
    for image, drawn in seen:
        assert len(image) == 8 and torch.equal(image, seen[0][0])
        torch.testing.assert_close(drawn, seen[0][1])
