"""Laws of the scores that compare pixels."""

import numpy as np
import pytest
from numpy.typing import NDArray

from evaluation.images import l1, psnr, ssim

Images = NDArray[np.uint8]


def images(seed: int, count: int = 2, side: int = 16) -> Images:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), np.uint8)


def test_psnr_of_one_grey_level_is_computed_by_hand() -> None:
    black = np.zeros((1, 4, 4, 3), np.uint8)
    one_up = black + np.uint8(51)
    assert psnr(black, one_up)[0] == pytest.approx(-20 * np.log10(0.2))
    assert l1(black, one_up)[0] == pytest.approx(0.2)


def test_scores_belong_to_one_image_each() -> None:
    a, b = images(0, 3), images(1, 3)
    for score in (psnr, ssim, l1):
        assert score(a, b).shape == (3,)
        np.testing.assert_allclose(score(a, b)[1:2], score(a[1:2], b[1:2]))


def test_equal_images_have_the_best_scores() -> None:
    a = images(0)
    np.testing.assert_allclose(ssim(a, a), 1)
    np.testing.assert_allclose(psnr(a, a), 100)
    np.testing.assert_allclose(l1(a, a), 0)


def test_scores_are_symmetric() -> None:
    a, b = images(0), images(1)
    for score in (psnr, ssim, l1):
        np.testing.assert_allclose(score(a, b), score(b, a))


def test_more_noise_scores_worse() -> None:
    a = images(0)
    noise = np.random.default_rng(2).normal(size=a.shape)
    little, much = (np.clip(a + scale * noise, 0, 255).astype(np.uint8) for scale in (8, 64))
    assert (psnr(a, little) > psnr(a, much)).all()
    assert (ssim(a, little) > ssim(a, much)).all()


def test_ssim_equals_a_literal_walk_over_windows() -> None:
    a, b = images(0, 1, 13), images(1, 1, 13)
    offsets = np.arange(11) - 5
    weights = np.exp(-(offsets[:, None] ** 2 + offsets[None, :] ** 2) / (2 * 1.5**2))
    weights /= weights.sum()
    places = []
    for channel in range(3):
        for top in range(3):
            for left in range(3):
                x, y = (i[0, top : top + 11, left : left + 11, channel] / 255 for i in (a, b))
                mx, my = (weights * x).sum(), (weights * y).sum()
                vx, vy = (weights * (x - mx) ** 2).sum(), (weights * (y - my) ** 2).sum()
                cov = (weights * (x - mx) * (y - my)).sum()
                c1, c2 = 0.0001, 0.0009
                places.append((2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2)))
    assert ssim(a, b)[0] == pytest.approx(np.mean(places))


def test_images_smaller_than_the_window_have_no_ssim() -> None:
    with pytest.raises(ValueError, match="11 pixels"):
        ssim(images(0, side=8), images(1, side=8))


def test_images_that_are_not_bytes_are_refused() -> None:
    with pytest.raises(ValueError, match="expected uint8"):
        psnr(images(0).astype(np.float32), images(1))
