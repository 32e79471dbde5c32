"""Laws of making a picture square: every shortcut gives what the long way gives."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, PngImagePlugin

from shards.making.pictures import Encoding, encode_image, square
from workspace.exact.tar import TarWriter

JPG, PNG = Encoding(16, "jpg", 90), Encoding(16, "png", 90)


def photograph(size: tuple[int, int]) -> Image.Image:
    """Smooth colours with edges in them, as photographs have."""
    x, y = np.meshgrid(np.linspace(0, 4, size[0]), np.linspace(0, 3, size[1]))
    waves = np.stack([np.sin(x + phase) * np.cos(y - phase) + (x > y) for phase in (0.0, 1.0, 2.0)], -1)
    return Image.fromarray(np.uint8(np.clip(waves * 60 + 110, 0, 255)))


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    made = io.BytesIO()
    image.save(made, kind, **options)
    return made.getvalue()


def pixels(data: bytes) -> NDArray[np.float64]:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), np.float64)


@pytest.mark.parametrize(("kind", "encoding"), [("jpeg", JPG), ("png", PNG)])
def test_a_picture_that_is_made_already_is_passed_through(kind: str, encoding: Encoding) -> None:
    data = saved(photograph((16, 16)), kind, dpi=(72, 72))
    assert encode_image(data, encoding) is data


def test_what_says_more_than_its_pixels_is_made_anew_without_it() -> None:
    image, profile = photograph((16, 16)), ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    turned = Image.Exif()
    turned[0x0112] = 1
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "secret")
    for data, encoding in (
        (saved(image, "jpeg", comment=b"secret"), JPG),
        (saved(image, "jpeg", icc_profile=profile), JPG),
        (saved(image, "jpeg", exif=turned), JPG),
        (saved(image, "jpeg", progressive=True), JPG),
        (saved(image, "jpeg") + b"more", JPG),
        (saved(image, "png", pnginfo=text), PNG),
        (saved(image, "png") + b"more", PNG),
        (saved(image, "jpeg"), PNG),
        (saved(image, "png"), JPG),
        (saved(image.convert("L"), "jpeg"), JPG),
    ):
        made = encode_image(data, encoding)
        assert made != data and b"secret" not in made
        assert (
            Image.open(io.BytesIO(made)).info.keys().isdisjoint({"exif", "comment", "icc_profile", "Comment"})
        )
        assert encode_image(made, encoding) is made


@pytest.mark.parametrize(("kind", "encoding"), [("jpeg", JPG), ("png", PNG)])
def test_a_picture_of_the_right_size_that_is_cut_short_is_none(kind: str, encoding: Encoding) -> None:
    data = saved(photograph((16, 16)), kind, **({"quality": 100} if kind == "jpeg" else {}))
    for length in (len(data) * 2 // 3, len(data) - 30):
        with pytest.raises((OSError, SyntaxError, ValueError)):  # noqa: PT011  PIL's words differ by version
            encode_image(data[:length], encoding)


@pytest.mark.parametrize("size", [(133, 99), (99, 133), (250, 251), (64, 64), (33, 40)])
def test_a_jpeg_decoded_at_a_part_of_its_size_gives_the_picture_of_the_whole(size: tuple[int, int]) -> None:
    data = saved(photograph(size), "jpeg", quality=95)
    whole = saved(Image.open(io.BytesIO(data)), "png")
    difference = np.abs(pixels(encode_image(data, PNG)) - pixels(encode_image(whole, PNG)))
    assert difference.mean() < 1.0 and difference.max() < 16


@pytest.mark.parametrize("size", [(40, 16), (16, 41), (33, 50), (64, 31), (5, 9)])
@pytest.mark.parametrize(
    "resample", [Image.Resampling.HAMMING, Image.Resampling.BICUBIC, Image.Resampling.BOX]
)
def test_one_step_gives_the_pixels_of_resizing_all_and_cropping(
    size: tuple[int, int], resample: Image.Resampling
) -> None:
    image, short = photograph(size), min(size)
    scaled = (max(16, round(size[0] * 16 / short)), max(16, round(size[1] * 16 / short)))
    left, top = (scaled[0] - 16) // 2, (scaled[1] - 16) // 2
    long_way = image.resize(scaled, resample).crop((left, top, left + 16, top + 16))
    difference = np.asarray(square(image, 16, resample, image.size), int) - np.asarray(long_way, int)
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_large_photograph_is_turned_upright(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(photograph((135, 120)), "jpeg", quality=95, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    upright.info.clear()
    difference = np.abs(pixels(encode_image(data, PNG)) - pixels(encode_image(saved(upright, "png"), PNG)))
    assert difference.mean() < 1.5


def test_a_tar_has_the_bytes_that_tarfile_writes(tmp_path: Path) -> None:
    members = [("a.png", b"x" * 700), ("b.cls", b"3"), ("c.txt", b""), ("d.png", bytes(20_480))]
    with TarWriter(tmp_path / "ours.tar") as ours:
        for name, data in members:
            ours.add(name, data)
    with tarfile.open(tmp_path / "theirs.tar", "w", format=tarfile.USTAR_FORMAT) as theirs:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.mtime = len(data), 0o644, 0
            theirs.addfile(info, io.BytesIO(data))
    assert (tmp_path / "ours.tar").read_bytes() == (tmp_path / "theirs.tar").read_bytes()
