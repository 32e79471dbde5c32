"""Laws of pixels: the one conversion to floats and back, the same to the bit in numpy and in torch."""

import numpy as np
import torch

from shards.images.pixels import to_float, to_tensor, to_uint8


def test_all_256_values_come_back_from_float() -> None:
    image = np.arange(256, dtype=np.uint8).reshape(1, 8, 32, 1).repeat(3, axis=3)
    floats = to_float(image)
    assert (floats.dtype, floats.shape, floats.min(), floats.max()) == (np.float32, (1, 3, 8, 32), -1, 1)
    assert np.array_equal(to_uint8(floats), image)


def test_floats_outside_the_range_are_clamped() -> None:
    assert to_uint8(np.array([-7.0, 7.0, 0.0]).reshape(3, 1, 1)).ravel().tolist() == [0, 255, 128]


def test_a_tensor_has_the_bits_of_the_array_and_its_memory_stays_channels_last() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
    before = images.copy()
    for given in (images, images[:, :, ::-1]):
        found = to_tensor(given, torch.device("cpu"))
        assert torch.equal(found, torch.from_numpy(to_float(given)))
        assert found.is_contiguous(memory_format=torch.channels_last)
    assert np.array_equal(images, before), "the pixels themselves are not touched"
