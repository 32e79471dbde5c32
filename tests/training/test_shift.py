"""Laws of the offsets under the perceptual loss: both pictures alike, nothing lost at borders, no place preferred."""

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
from training.mqvae.shift import offsets, shifted
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


@pytest.mark.parametrize("most", [0, 1, 7, 15])
def test_a_shifted_image_is_torchs_reflection_and_holds_the_whole_image_where_the_offset_says(
    most: int,
) -> None:
    image_BCHW = random_images(16).requires_grad_()
    places = offsets([3, 4, 5], most)
    ours = shifted(image_BCHW, places, most)
    theirs = torch.cat(
        [
            F.pad(image, (right, most - right, down, most - down), mode="reflect")
            for image, (down, right) in zip(image_BCHW.split(1), places, strict=True)
        ]
    )
    assert torch.equal(ours, theirs) and ours.shape == (3, 3, 16 + most, 16 + most)
    for image, frame, (down, right) in zip(image_BCHW, ours, places, strict=True):
        assert torch.equal(frame[:, down : down + 16, right : right + 16], image)
    weight = torch.randn_like(ours)
    gradients = [torch.autograd.grad((weight * one).sum(), image_BCHW)[0] for one in (ours, theirs)]
    torch.testing.assert_close(*gradients)


def test_an_image_moves_by_its_own_seed_and_by_every_offset_as_often() -> None:
    seeds = range(4000)
    whole = offsets(seeds, 3)
    assert whole[7:9] == offsets([7, 8], 3)
    assert offsets(seeds, 0) == [(0, 0)] * 4000
    counts = Counter(whole)
    assert set(counts) == {(down, right) for down in range(4) for right in range(4)}
    # 250 each are expected, with a standard deviation of 15
    assert all(abs(count - 250) < 75 for count in counts.values())


def test_without_a_shift_the_loss_and_its_gradient_are_the_bits_of_the_distance_alone() -> None:
    image_BCHW, leaf_BCHW = random_images(16), random_images(16).flip(0).requires_grad_()
    total, terms = reconstruction_terms(PERCEPTUAL, strided, image_BCHW, leaf_BCHW, [0, 1, 2])
    plain = F.l1_loss(leaf_BCHW, image_BCHW) + F.mse_loss(leaf_BCHW, image_BCHW)
    plain = plain + 0.5 * strided(image_BCHW, leaf_BCHW)
    assert torch.equal(total, plain) and torch.equal(terms["perceptual"], strided(image_BCHW, leaf_BCHW))
    assert torch.equal(*(torch.autograd.grad(loss, leaf_BCHW)[0] for loss in (total, plain)))


def test_pixel_losses_are_of_the_pictures_as_they_are() -> None:
    image_BCHW, other_BCHW = random_images(16), random_images(16).flip(0)
    moved = dataclasses.replace(PERCEPTUAL, perceptual_shift=7)
    found = [
        reconstruction_terms(loss, strided, image_BCHW, other_BCHW, [0, 1, 2])[1]
        for loss in (PERCEPTUAL, moved)
    ]
    assert all(torch.equal(found[0][name], found[1][name]) for name in ("l1", "l2"))
    assert not torch.equal(found[0]["perceptual"], found[1]["perceptual"])


def test_a_picture_equal_to_its_image_has_no_distance_at_any_offset() -> None:
    image_BCHW = random_images(16)
    moved = dataclasses.replace(PERCEPTUAL, perceptual_shift=15)
    for seed in range(5):
        assert reconstruction_terms(moved, strided, image_BCHW, image_BCHW.clone(), [seed] * 3)[0] == 0


def averaged(distance: Perceptual, a_BCHW: Tensor, b_BCHW: Tensor, most: int) -> Tensor:
    """The distance over all offsets."""
    every = [(down, right) for down in range(most + 1) for right in range(most + 1)]
    found = [
        distance(*(shifted(side, [place] * len(side), most) for side in (a_BCHW, b_BCHW))) for place in every
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
    (seen,) = torch.autograd.grad(total, leaf_BCHW)
    assert seen[..., -1].any() and seen[:, :, -1].any()


def pictures_of_64() -> Tensor:
    return F.interpolate(random_images(8, 2).float(), size=64, mode="bilinear") * 2 - 1


def shifting(settings: MQVAESettings, perceptual: Perceptual) -> MQVAETrainingModule:
    module = training_module()
    module.settings, module.perceptual = settings, perceptual
    return module


SHIFTED = TRAINING.replaced(
    steps=8, checkpoint_every=3, loss=dataclasses.replace(PERCEPTUAL, adversarial=0.0, perceptual_shift=3)
)


def test_a_training_step_compares_both_pictures_at_the_offsets_of_its_samples() -> None:
    seen: list[Tensor] = []

    def watched(image_BCHW: Tensor, recovered_BCHW: Tensor) -> Tensor:
        assert recovered_BCHW.shape == image_BCHW.shape
        seen.append(image_BCHW)
        return (image_BCHW - recovered_BCHW).square().mean()

    (batch, _) = batches(SHIFTED)(0)
    shifting(SHIFTED, watched).micro_step(batch, 0, 1.0)
    places = offsets(batch.seeds, 3)
    assert len(seen) == 1 and torch.equal(seen[0], shifted(batch.image_BCHW.double(), places, 3))
    assert len(set(places)) > 1


def test_a_killed_and_resumed_run_moves_its_pictures_as_an_uninterrupted_one(tmp_path: Path) -> None:
    def killed(step: int) -> Sequence[ImageBatch]:
        if step == 5:
            raise InterruptedError("at step 5")
        return batches(SHIFTED)(step)

    train(shifting(SHIFTED, strided), batches(SHIFTED), SHIFTED, Alone(), folder(tmp_path / "whole"))
    with pytest.raises(InterruptedError, match="at step 5"):
        train(shifting(SHIFTED, strided), killed, SHIFTED, Alone(), folder(tmp_path / "killed"))
    train(shifting(SHIFTED, strided), batches(SHIFTED), SHIFTED, Alone(), folder(tmp_path / "killed"))
    assert newest(tmp_path / "killed") == newest(tmp_path / "whole")
    assert losses(tmp_path / "killed", "perceptual") == losses(tmp_path / "whole", "perceptual")


def test_offsets_below_zero_and_beyond_the_image_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"perceptual_shift is -1, expected ≥ 0"):
        dataclasses.replace(LOSS, perceptual_shift=-1)
    size = TRAINING.model.image_size
    for most in (0, size - 1):
        TRAINING.replaced(loss=dataclasses.replace(LOSS, perceptual_shift=most)).check("mqvae", COMPUTE)
    beyond = TRAINING.replaced(loss=dataclasses.replace(LOSS, perceptual_shift=size))
    with pytest.raises(
        UserError, match=rf"mqvae\.loss\.perceptual_shift is {size} and model\.image_size {size}"
    ):
        beyond.check("mqvae", COMPUTE)
