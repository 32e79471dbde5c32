"""Softening keeps a picture's brightness and flat areas, and takes the sharpness of its edges."""

import numpy as np

from evaluation.features.labelled import soften


def test_flat_pictures_stay_and_edges_become_slopes() -> None:
    flat = np.full((8, 8, 3), 77, np.uint8)
    assert np.array_equal(soften(flat), flat)
    edge = np.zeros((8, 8, 3), np.uint8)
    edge[:, 4:] = 90
    assert soften(edge)[3, :, 0].tolist() == [0, 0, 10, 30, 60, 80, 90, 90]


def test_each_pixel_is_the_mean_of_its_neighbourhood_twice() -> None:
    image = np.random.default_rng(0).integers(0, 256, (6, 7, 3)).astype(np.uint8)
    soft = image.astype(np.float64)
    for _ in range(2):
        padded = np.pad(soft, ((1, 1), (1, 1), (0, 0)), mode="edge")
        soft = np.array(
            [[padded[y : y + 3, x : x + 3].mean(axis=(0, 1)) for x in range(7)] for y in range(6)]
        )
    assert np.abs(soften(image) - soft).max() <= 0.5 + 1e-3
