"""Laws of the views in which the perceptual loss compares: both pictures alike, nothing lost at borders, no place preferred."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from evaluation.perceptual.backbones import squeezenet_features
from evaluation.perceptual.lpips import LPIPS, SQUEEZENET_CUTS
from settings.mqvae import MQVAESettings
from tests.training.test_mqvae_training import (
    LOSS,
    TRAINING,
    Alone,
    batches,
    folder,
    losses,
    newest,
    training_module,
)
from training.loop.train import train
from training.mqvae.module import ImageBatch, MQVAETrainingModule
from training.mqvae.reconstruction import Perceptual, reconstruction_terms
from training.mqvae.views import View, seen, views
from workspace.errors import UserError
from workspace.settings import Compute

COMPUTE = Compute(device="cpu", workers=0, threads=1, loader_workers=0, ray_address="local")
PERCEPTUAL = dataclasses.replace(LOSS, perceptual=0.5)


def random_images(size: int, count: int = 3) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def strided(a_BCHW: Tensor, b_BCHW: Tensor) -> Tensor:
    """A distance that looks at every fourth window only, as a network with strides does."""
    kernel = torch.linspace(-1, 2, 27, dtype=a_BCHW.dtype).reshape(1, 3, 3, 3)
    return (F.conv2d(a_BCHW, kernel, stride=4) - F.conv2d(b_BCHW, kernel, stride=4)).square().mean()


@pytest.mark.parametrize(("scale", "most"), [(1, 0), (1, 7), (1, 15), (2, 0), (2, 7), (3, 1)])
def test_a_view_is_the_part_of_the_enlarged_and_reflected_image_that_it_names(scale: int, most: int) -> None:
    image_BCHW = random_images(16).requires_grad_()
    chosen = views([3, 4, 5], scale, most)
    ours = seen(image_BCHW, chosen, scale, most)
    large_BCHW = F.interpolate(image_BCHW, scale_factor=scale, mode="bilinear")
    theirs = []
    for image, view in zip(large_BCHW.split(1), chosen, strict=True):
        margins = (view.right, most - view.right, view.down, most - view.down)
        top, left = 16 * view.row, 16 * view.column
        framed = F.pad(image, margins, mode="reflect")
        theirs.append(framed[:, :, top : top + 16 + most, left : left + 16 + most])
    assert ours.shape == (3, 3, 16 + most, 16 + most)
    torch.testing.assert_close(ours, torch.cat(theirs), rtol=0, atol=0)
    weight = torch.randn_like(ours)
    gradients = [
        torch.autograd.grad((weight * one).sum(), image_BCHW)[0] for one in (ours, torch.cat(theirs))
    ]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("most", [0, 3, 15])
def test_a_moved_image_is_whole_where_its_offset_says(most: int) -> None:
    image_BCHW = random_images(16)
    chosen = views([3, 4, 5], 1, most)
    for image, frame, view in zip(image_BCHW, seen(image_BCHW, chosen, 1, most), chosen, strict=True):
        inside = frame[:, view.down : view.down + 16, view.right : view.right + 16]
        assert torch.equal(inside, image)


def test_the_parts_of_an_enlarged_image_cover_it_once() -> None:
    image_BCHW = random_images(8, 1)
    parts = [View(row, column, 0, 0) for row in range(2) for column in range(2)]
    shown = seen(image_BCHW.expand(4, -1, -1, -1), parts, 2, 0)
    whole = torch.cat([torch.cat([*shown[:2]], dim=-1), torch.cat([*shown[2:]], dim=-1)], dim=-2)
    assert torch.equal(whole, F.interpolate(image_BCHW, scale_factor=2, mode="bilinear")[0])


def test_an_image_is_seen_by_its_own_seed_and_in_every_view_as_often() -> None:
    seeds = range(4000)
    whole = views(seeds, 2, 1)
    assert whole[7:9] == views([7, 8], 2, 1)
    assert set(views(seeds, 1, 0)) == {View(0, 0, 0, 0)}
    counts = Counter(whole)
    assert len(counts) == 2**4
    # 250 each are expected, with a standard deviation of 15
    assert all(abs(count - 250) < 75 for count in counts.values())


def test_without_enlargement_and_shift_the_loss_and_its_gradient_are_the_bits_of_the_distance_alone() -> None:
    image_BCHW, leaf_BCHW = random_images(16), random_images(16).flip(0).requires_grad_()
    total, terms = reconstruction_terms(PERCEPTUAL, strided, image_BCHW, leaf_BCHW, [0, 1, 2])
    plain = F.l1_loss(leaf_BCHW, image_BCHW) + F.mse_loss(leaf_BCHW, image_BCHW)
    plain = plain + 0.5 * strided(image_BCHW, leaf_BCHW)
    assert torch.equal(total, plain) and torch.equal(terms["perceptual"], strided(image_BCHW, leaf_BCHW))
    assert torch.equal(*(torch.autograd.grad(loss, leaf_BCHW)[0] for loss in (total, plain)))


def test_pixel_losses_are_of_the_pictures_as_they_are() -> None:
    image_BCHW, other_BCHW = random_images(16), random_images(16).flip(0)
    moved = dataclasses.replace(PERCEPTUAL, perceptual_scale=2, perceptual_shift=7)
    found = [
        reconstruction_terms(loss, strided, image_BCHW, other_BCHW, [0, 1, 2])[1]
        for loss in (PERCEPTUAL, moved)
    ]
    assert all(torch.equal(found[0][name], found[1][name]) for name in ("l1", "l2"))
    assert not torch.equal(found[0]["perceptual"], found[1]["perceptual"])


def test_a_picture_equal_to_its_image_has_no_distance_in_any_view() -> None:
    image_BCHW = random_images(16)
    moved = dataclasses.replace(PERCEPTUAL, perceptual_scale=2, perceptual_shift=15)
    for seed in range(5):
        assert reconstruction_terms(moved, strided, image_BCHW, image_BCHW.clone(), [seed] * 3)[0] == 0


def averaged(distance: Perceptual, a_BCHW: Tensor, b_BCHW: Tensor, most: int) -> Tensor:
    """The distance over all offsets."""
    every = [View(0, 0, down, right) for down in range(most + 1) for right in range(most + 1)]
    found = [
        distance(*(seen(side, [view] * len(side), 1, most) for side in (a_BCHW, b_BCHW))) for view in every
    ]
    return torch.stack(found).mean()


def test_over_its_offsets_a_distance_with_strides_is_the_same_wherever_a_pair_lies() -> None:
    """The pictures differ in the middle alone, so that nothing leaves them at a border."""

    def pair(down: int, right: int) -> tuple[Tensor, Tensor]:
        image_BCHW = torch.zeros(1, 3, 24, 24, dtype=torch.float64)
        image_BCHW[:, :, 8 + down : 14 + down, 8 + right : 14 + right] = random_images(6, 1)
        return image_BCHW, torch.zeros_like(image_BCHW)

    moves = [(0, 0), (0, 1), (2, 1), (3, 3)]
    with_offsets = [averaged(strided, *pair(*move), 3) for move in moves]
    torch.testing.assert_close(with_offsets, [with_offsets[0]] * 4)
    without = [strided(*pair(*move)) for move in moves]
    assert max(without) > 1.1 * min(without)  # or the distance had no raster to begin with


def test_squeezenet_never_sees_the_last_row_and_column_but_for_the_offsets() -> None:
    torch.manual_seed(0)
    channels = (64, 128, 256, 384, 384, 512, 512)
    lpips = LPIPS(squeezenet_features(), SQUEEZENET_CUTS, [torch.ones(width) for width in channels])
    image_BCHW, leaf_BCHW = pictures_of_64(), (pictures_of_64() * 0.8).requires_grad_()
    (plain,) = torch.autograd.grad(lpips(image_BCHW, leaf_BCHW), leaf_BCHW)
    assert not plain[..., -1].any() and not plain[:, :, -1].any()
    moved = dataclasses.replace(PERCEPTUAL, l1=0.0, l2=0.0, perceptual_shift=7)
    total, _ = reconstruction_terms(moved, lpips, image_BCHW, leaf_BCHW, [1, 2])
    (moving,) = torch.autograd.grad(total, leaf_BCHW)
    assert moving[..., -1].any() and moving[:, :, -1].any()


def pictures_of_64() -> Tensor:
    return F.interpolate(random_images(8, 2).float(), size=64, mode="bilinear") * 2 - 1


def viewing(settings: MQVAESettings, perceptual: Perceptual) -> MQVAETrainingModule:
    module = training_module()
    module.settings, module.perceptual = settings, perceptual
    return module


VIEWED = dataclasses.replace(PERCEPTUAL, adversarial=0.0, perceptual_scale=2, perceptual_shift=3)
SETTINGS = TRAINING.replaced(steps=8, checkpoint_every=3, loss=VIEWED)


def test_a_training_step_compares_both_pictures_in_the_views_of_its_samples() -> None:
    compared: list[Tensor] = []

    def watched(image_BCHW: Tensor, recovered_BCHW: Tensor) -> Tensor:
        assert recovered_BCHW.shape == image_BCHW.shape
        compared.append(image_BCHW)
        return (image_BCHW - recovered_BCHW).square().mean()

    (batch, _) = batches(SETTINGS)(0)
    viewing(SETTINGS, watched).micro_step(batch, 0, 1.0)
    chosen = views(batch.seeds, 2, 3)
    assert len(compared) == 1 and torch.equal(compared[0], seen(batch.image_BCHW.double(), chosen, 2, 3))
    assert len(set(chosen)) > 1


def test_a_killed_and_resumed_run_compares_what_an_uninterrupted_one_does(tmp_path: Path) -> None:
    def killed(step: int) -> Sequence[ImageBatch]:
        if step == 5:
            raise InterruptedError("at step 5")
        return batches(SETTINGS)(step)

    train(viewing(SETTINGS, strided), batches(SETTINGS), SETTINGS, Alone(), folder(tmp_path / "whole"))
    with pytest.raises(InterruptedError, match="at step 5"):
        train(viewing(SETTINGS, strided), killed, SETTINGS, Alone(), folder(tmp_path / "killed"))
    train(viewing(SETTINGS, strided), batches(SETTINGS), SETTINGS, Alone(), folder(tmp_path / "killed"))
    assert newest(tmp_path / "killed") == newest(tmp_path / "whole")
    assert losses(tmp_path / "killed", "perceptual") == losses(tmp_path / "whole", "perceptual")


def test_views_that_cannot_be_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"perceptual_shift is -1, expected ≥ 0"):
        dataclasses.replace(LOSS, perceptual_shift=-1)
    with pytest.raises(ValueError, match=r"perceptual_scale is 0, expected ≥ 1"):
        dataclasses.replace(LOSS, perceptual_scale=0)
    size = TRAINING.model.image_size
    for most in (0, size - 1):
        TRAINING.replaced(loss=dataclasses.replace(LOSS, perceptual_shift=most)).check("mqvae", COMPUTE)
    beyond = TRAINING.replaced(loss=dataclasses.replace(LOSS, perceptual_shift=size))
    with pytest.raises(
        UserError, match=rf"mqvae\.loss\.perceptual_shift is {size} and model\.image_size {size}"
    ):
        beyond.check("mqvae", COMPUTE)
