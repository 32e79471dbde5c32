"""Picture files that the hostile cases are made of; some PIL would not write."""

import io
import struct
import zlib

import numpy as np
from PIL import Image, ImageCms

SIDE = 32


COLOURS = {
    "R": (220, 20, 20),
    "G": (20, 200, 20),
    "B": (20, 20, 220),
    "Y": (220, 220, 20),
    "white": (255, 255, 255),
}


def picture() -> Image.Image:
    """Red, green / blue, yellow."""
    pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
    half = SIDE // 2
    for (row, column), name in zip(np.ndindex(2, 2), "RGBY", strict=True):
        pixels[row * half : (row + 1) * half, column * half : (column + 1) * half] = COLOURS[name]
    return Image.fromarray(pixels)


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    """An image as a file."""
    made = io.BytesIO()
    image.save(made, form, **options)
    return made.getvalue()


def png(
    rows: list[bytes], width: int, height: int, depth: int, colour: int, interlace: int = 0, share: float = 1
) -> bytes:
    """A PNG by hand, of filtered rows: what PIL does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    packed = zlib.compress(b"".join(rows), 1)
    packed = packed[: round(share * len(packed))]
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def deep_png(colour: bool) -> bytes:
    """16 bits a channel: the picture, or four greys."""
    values = np.asarray(picture()).astype(">u2") * 257
    if not colour:
        values = np.repeat(np.repeat(np.array([[0, 21845], [43690, 65535]], ">u2"), 16, 0), 16, 1)
    return png([b"\0" + row.tobytes() for row in values], SIDE, SIDE, 16, 2 if colour else 0)


def interlaced_png() -> bytes:
    """Adam7."""
    pixels, rows = np.asarray(picture()), []
    passes = (
        (0, 0, 8, 8),
        (0, 4, 8, 8),
        (4, 0, 8, 4),
        (0, 2, 4, 4),
        (2, 0, 4, 2),
        (0, 1, 2, 2),
        (1, 0, 2, 1),
    )
    for top, left, down, right in passes:
        rows += [b"\0" + row.tobytes() for row in pixels[top::down, left::right]]
    return png(rows, SIDE, SIDE, 8, 2, interlace=1)


def half_clear() -> Image.Image:
    """The picture, its left half transparent over hidden black."""
    pixels = np.dstack([np.asarray(picture()), np.full((SIDE, SIDE), 255, np.uint8)])
    pixels[:, : SIDE // 2] = 0
    return Image.fromarray(pixels)


def ycck_jpeg() -> bytes:
    """A CMYK JPEG whose Adobe marker says that its channels are Y, Cb, Cr, K."""
    turned = Image.fromarray(255 - np.asarray(picture())).convert("YCbCr")
    channels = [Image.fromarray(255 - np.asarray(channel)) for channel in turned.split()]
    black = Image.new("L", (SIDE, SIDE), 0)
    data = saved(Image.merge("CMYK", [*channels, black]), "jpeg", quality=95)
    place = data.index(b"Adobe") + 11
    assert data[place] == 0
    return data[:place] + b"\x02" + data[place + 1 :]


def swapped_profile() -> bytes:
    """sRGB's profile with red and green exchanged, under another name."""
    data = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    places = [
        struct.unpack(">II", data[data.index(tag) + 4 : data.index(tag) + 12]) for tag in (b"rXYZ", b"gXYZ")
    ]
    for tag, place in zip((b"rXYZ", b"gXYZ"), reversed(places), strict=True):
        at = data.index(tag) + 4
        data = data[:at] + struct.pack(">II", *place) + data[at + 8 :]
    return data.replace("sRGB".encode("utf-16-be"), "swap".encode("utf-16-be"))


def turned(orientation: int) -> bytes:
    """A JPEG that is upright once its EXIF orientation is obeyed."""
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    image = picture() if orientation == 1 else picture().transpose(undo[orientation])
    exif = Image.Exif()
    exif[274] = orientation
    return saved(image, "jpeg", quality=95, exif=exif)


def animated(form: str) -> bytes:
    """The picture, then its negative."""
    other = Image.fromarray(255 - np.asarray(picture()))
    return saved(picture(), form, save_all=True, append_images=[other], duration=90, lossless=True)


PNG, JPEG = saved(picture(), "png"), saved(picture(), "jpeg", quality=95)


NOISE = saved(
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)), "jpeg"
)


BLACK_1_BIT = [b"\0" + bytes(2500)] * 20000
