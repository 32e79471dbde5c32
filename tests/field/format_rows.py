"""Formats and depths: what Pillow reads is read, ranges are scaled by what is there, the rest is counted by extension."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from PIL import Image, ImageCms

from shards.images import SKIPPED
from tests.field.counting import sharded
from tests.field.place import picture_bytes, pictures, write
from tests.field.table import Field, Row
from tests.hostile.pictures import png, saved

AREA = "formats and depths"
SIDE = 16


def beside_good(files: dict[str, bytes]) -> Callable[[Field, Path], str]:
    """Files beside four pictures: the counts, and why files were skipped."""

    def outcome(field: Field, folder: Path) -> str:
        source = pictures(folder / "data", 4)
        for name, data in files.items():
            write(source / name, data)
        made = sharded(source, folder / "run")
        lines = (made.folder.out / SKIPPED).read_text(encoding="utf-8").splitlines()
        return "; ".join([made.told(), *(json.loads(line)["reason"] for line in lines)])

    return outcome


def level(name: str, data: bytes) -> Callable[[Field, Path], str]:
    """The mean colour of a picture of one colour, as it is stored."""

    def outcome(field: Field, folder: Path) -> str:
        source = pictures(folder / "data", 4)
        write(source / name, data)
        made = sharded(source, folder / "run")
        assert made.counts["skipped"] == 0
        for split in ("train", "val"):
            index = made.shards.index(split)
            for number, row in enumerate(index.rows()):
                if row.source == name:
                    pixel = index.read(number).image.mean(axis=(0, 1))
                    return f"colour {' '.join(str(int(round(value / 4) * 4)) for value in pixel)}"
        return "lost"

    return outcome


def deep(values: tuple[int, ...], colour_type: int) -> bytes:
    """A PNG of 16 bits of one colour, with one pixel of the greatest value."""
    pixels = np.full((SIDE, SIDE, len(values)), values, ">u2")
    return png([b"\0" + row.tobytes() for row in pixels], SIDE, SIDE, 16, colour_type)


def tiff(array: np.ndarray) -> bytes:
    """A TIFF of an array."""
    return saved(Image.fromarray(array), "tiff")


def lab() -> bytes:
    """A TIFF in LAB."""
    plain = Image.new("RGB", (SIDE, SIDE), (200, 40, 40))
    made = ImageCms.profileToProfile(
        plain, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    assert made is not None
    return saved(made, "tiff")


def turned(field: Field, folder: Path) -> str:
    """A TIFF with an orientation: Pillow turns it itself, once is enough."""
    image = Image.new("RGB", (SIDE, SIDE), (0, 0, 0))
    image.paste((240, 240, 240), (0, 0, SIDE, SIDE // 2))  # white above
    exif = Image.Exif()
    exif[274] = 6  # turn by 270
    source = pictures(folder / "data", 4)
    write(source / "x.tif", saved(image.transpose(Image.Transpose.ROTATE_90), "tiff", exif=exif))
    made = sharded(source, folder / "run")
    for split in ("train", "val"):
        index = made.shards.index(split)
        for number, row in enumerate(index.rows()):
            if row.source == "x.tif":
                return f"above {'white' if index.read(number).image[:3].mean() > 200 else 'black'}"
    return "lost"


def heic(image: Image.Image, **options: object) -> bytes:
    """A HEIC, by the real package."""
    heif = pytest.importorskip("pillow_heif", reason="pillow-heif is not installed (extra heif)")
    made = io.BytesIO()
    heif.from_pillow(image).save(made, quality=95, **options)
    return made.getvalue()


def halves() -> Image.Image:
    """White above, black below."""
    image = Image.new("RGB", (64, 48), (0, 0, 0))
    image.paste((240, 240, 240), (0, 0, 64, 24))
    return image


def phones(field: Field, folder: Path) -> str:
    """HEIC as phones write it: plain, held upright, with an alpha, a burst, under other names, torn, and HEIC in a tar."""
    upright, source = Image.Exif(), pictures(folder / "data", 4)
    upright[274] = 6
    files = {
        "IMG_1.HEIC": heic(halves()),
        "IMG_2.heif": heic(halves().transpose(Image.Transpose.ROTATE_90), exif=upright.tobytes()),
        "IMG_3.jpg": heic(halves()),
        "IMG_4": heic(halves()),
        "torn.heic": heic(halves())[:-5],
    }
    for name, data in files.items():
        write(source / name, data)
    made = sharded(source, folder / "run")
    right = sum(
        index.read(number).image[:2].mean() > 200 and index.read(number).image[-2:].mean() < 40
        for index in map(made.shards.index, ("train", "val"))
        for number, row in enumerate(index.rows())
        if row.source in files
    )
    reasons = (made.folder.out / SKIPPED).read_text(encoding="utf-8")
    return f"{made.told()}; {right} of 4 white above and black below; {'Unexpected end of file' in reasons}"


def without_heif(field: Field, folder: Path) -> str:
    """As where pillow-heif is not installed."""
    with mock.patch.dict(sys.modules, {"pillow_heif": None}):
        return beside_good({"a.heic": b"\0\0\0\x18ftypheic" + bytes(40)})(field, folder)


RED, BLUE = (200, 40, 40), (0, 0, 255)


def frames(form: str, **options: object) -> bytes:
    """A red picture that turns blue."""
    made = io.BytesIO()
    red, blue = (Image.new("RGB", (SIDE, SIDE), colour) for colour in (RED, BLUE))
    red.save(made, form, save_all=True, append_images=[blue], duration=10, **options)
    return made.getvalue()


GREY_12 = tiff(np.full((SIDE, SIDE), 2048, np.uint16))
CLEAR = Image.new("RGBA", (SIDE, SIDE), (10, 200, 10, 0))
MANY = {
    f"x{n}.{extension}": picture_bytes(40 + n, form)
    for n, (extension, form) in enumerate([("tif", "tiff"), ("TIFF", "tiff"), ("avif", "avif"), ("jfif", "jpeg"), ("jpe", "jpeg"), ("jp2", "jpeg2000"), ("tga", "tga"), ("ppm", "ppm"), ("ico", "ico")])
}  # fmt: skip
ROWS: tuple[Row, ...] = (
    Row("tif, avif, jfif, jpe, jp2, tga, ppm, ico files are passed over", AREA, "one of each beside four", "seen 13 =", beside_good(MANY)),
    Row("pictures without an extension, or with one that says nothing", AREA, "photo, photo.jpg.1, photo.download", "seen 7 =", beside_good({"photo": picture_bytes(50, "jpeg"), "photo.jpg.1": picture_bytes(51, "jpeg"), "photo.download": picture_bytes(52)})),
    Row("files that are not pictures are uncounted", AREA, "csv, mp4, zip, a sidecar, no extension", "5 passed over", beside_good(dict.fromkeys(("a.csv", "b.mp4", "c.zip", "000.xmp", "README"), b"not a picture"))),
    Row("a camera's raw files are read as their thumbnails", AREA, "TIFF bytes named .dng, .nef", "2 passed over", beside_good({"a.dng": GREY_12, "b.nef": GREY_12})),
    Row("HEIC without its package", AREA, "the first bytes of a HEIC", "HEIC: `pip install pillow-heif` to read it", without_heif),
    Row("HEIC from phones", AREA, "with pillow-heif: .HEIC, .heif turned, HEIC named .jpg, without an extension, torn", "seen 9 = 5 train + 3 val + 1 skipped; 0 passed over; 4 of 4 white above and black below; True", phones),
    Row("a HEIC that shows its hidden colour", AREA, "an alpha, all clear over green", "colour 256 256 256", lambda field, folder: level("x.heic", heic(CLEAR))(field, folder)),
    Row("PostScript named .jpg would be run by its interpreter", AREA, "%!PS-Adobe in x.jpg", "EPS is not read", beside_good({"x.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"})),
    Row("12 bits in a 16-bit grey PNG come out almost black", AREA, "level 2048 of 4095", "colour 128 128 128", level("x.png", deep((2048,), 0))),
    Row("12 bits in a 16-bit colour PNG come out almost black", AREA, "4095, 2048, 0", "colour 256 128 0", level("x.png", deep((4095, 2048, 0), 2))),
    Row("12 bits in a 16-bit colour PNG with alpha", AREA, "4095, 2048, 0 and full alpha", "colour 256 128 0", level("x.png", deep((4095, 2048, 0, 65535), 6))),
    Row("16 bits that are there stay as they are", AREA, "level 32896", "colour 128 128 128", level("x.png", deep((32896,), 0))),
    Row("12 bits in a 16-bit TIFF", AREA, "level 2048", "colour 128 128 128", level("x.tif", GREY_12)),
    Row("a float TIFF from 0 to 1 comes out black", AREA, "0.5", "colour 128 128 128", level("x.tif", tiff(np.full((SIDE, SIDE), 0.5, np.float32)))),
    Row("a float TIFF from 0 to 255", AREA, "128.0", "colour 128 128 128", level("x.tif", tiff(np.full((SIDE, SIDE), 128, np.float32)))),
    Row("a TIFF of 32-bit whole numbers beyond 16 bits", AREA, "0 and 1,000,000 in halves", "colour 128 128 128", level("x.tif", tiff(np.repeat([[0], [1_000_000]], SIDE // 2, 0).repeat(SIDE, 1).astype(np.int32)))),
    Row("a TIFF in LAB", AREA, "a red of 200 40 40", "colour 200 ", level("x.tif", lab())),
    Row("a PNG of one bit, white", AREA, "mode 1", "colour 256 256 256", level("x.png", saved(Image.new("1", (SIDE, SIDE), 1), "png"))),
    Row("a transparent picture shows its hidden colour", AREA, "RGBA, all clear over green", "colour 256 256 256", level("x.png", saved(CLEAR, "png"))),
    Row("a palette with a transparent colour", AREA, "P with tRNS", "colour 256 256 256", level("x.png", saved(Image.new("P", (SIDE, SIDE), 0), "png", transparency=0))),
    Row("CMYK without a profile", AREA, "a TIFF of cyan 0, magenta 255, yellow 255, black 0", "colour 256 0 0", level("x.tif", saved(Image.new("CMYK", (SIDE, SIDE), (0, 255, 255, 0)), "tiff"))),
    Row("an animated WebP", AREA, "red, then blue: the first is taken, and said", "colour 200 40 40", level("x.webp", frames("webp", lossless=True))),
    Row("an animated PNG", AREA, "red, then blue", "colour 200 40 40", level("x.png", frames("png"))),
    Row("an animated GIF", AREA, "red, then blue", "colour 200 40 40", level("x.gif", frames("gif"))),
    Row("a JPEG in CMYK, inverted as Adobe writes them", AREA, "cyan 0, magenta 255, yellow 255, black 0", "colour 256 0 0", level("x.jpg", saved(Image.new("CMYK", (SIDE, SIDE), (0, 255, 255, 0)), "jpeg", quality=95))),
    Row("grey with alpha, all clear", AREA, "LA", "colour 256 256 256", level("x.png", saved(Image.new("LA", (SIDE, SIDE), (128, 0)), "png"))),
    Row("a strip of one pixel's width", AREA, "1 × 900", "colour 200 40 40", level("x.png", saved(Image.new("RGB", (1, 900), RED), "png"))),
    Row("12 bits in a PGM of Netpbm", AREA, "level 2048, of at most 4095", "colour 128 128 128", level("x.pgm", b"P5\n%d %d\n4095\n" % (SIDE, SIDE) + np.full((SIDE, SIDE), 2048, ">u2").tobytes())),
    Row("a TIFF with an orientation is turned twice", AREA, "orientation 6", "above white", turned),
)  # fmt: skip
