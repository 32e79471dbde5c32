"""Any picture → a square one: short side resized, centre cropped, sRGB, png or jpg."""

import io
import struct
import zlib
from dataclasses import dataclass
from typing import Literal

from PIL import Image

from shards.images.opening import opened
from shards.making.colours import to_srgb
from shards.making.whole_jpeg import is_whole

Format = Literal["png", "jpg"]
END_OF_JPEG = b"\xff\xd9"
PLAIN_JPEG = {"jfif", "jfif_version", "jfif_unit", "jfif_density", "dpi"}
"""PIL's info keys for a baseline JPEG without metadata."""
PLAIN_PNG = (b"IHDR", b"IDAT", b"IEND", b"pHYs", b"sRGB")
"""Chunks of a PNG without metadata."""
ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation → the transposition that turns the picture upright."""


@dataclass(frozen=True)
class Encoding:
    """How images are stored: pixels per side, png or jpg, jpg quality (1-95)."""

    image_size: int
    format: Format
    quality: int


def square(
    image: Image.Image, size: int, resample: Image.Resampling, extent: tuple[float, float]
) -> Image.Image:
    """Resize the short side to `size` (antialiased) and crop the centre, in one step that computes only the kept pixels.

    Args:
        image: the decoded picture.
        size: pixels per side.
        resample: the filter.
        extent: the picture's width and height in pixels of `image`; not whole numbers if a JPEG with odd sides was decoded
            at half its size, because the picture then ends inside the last pixel.
    """
    width, height = extent
    short = min(width, height)
    scaled = (max(size, round(width * size / short)), max(size, round(height * size / short)))
    left, top = (scaled[0] - size) // 2, (scaled[1] - size) // 2
    across, down = width / scaled[0], height / scaled[1]
    box = (left * across, top * down, (left + size) * across, (top + size) * down)
    return image.resize((size, size), resample, box=box)


def encode_image(data: bytes, encoding: Encoding, notes: set[str] | None = None) -> bytes:
    """Any picture → a square sRGB png or jpg; raises one of `NO_IMAGE` if the bytes are not a picture.

    Turned as its EXIF says; the first frame of an animation; transparent parts on white; more than 8 bits scaled to 8 by the
    values' range; an embedded profile's colours converted to sRGB. Bytes that already are such a picture, without metadata,
    are passed through. A JPEG many times the size is decoded at 1/2, 1/4 or 1/8, which its format offers, but never below
    twice the size, so that the resampling filter decides how the result looks.

    Args:
        data: the file's bytes.
        encoding: the format of the result.
        notes: collects guesses and omissions, as phrases that are counted over all pictures.
    """
    size, notes = encoding.image_size, set() if notes is None else notes
    if encoding.format == "jpg" and is_whole(data, size):
        return data
    image = opened(data)
    if _is_made(image, data, encoding):
        return data
    drafted = image.draft("RGB", (2 * size, 2 * size))  # None if the format offers no smaller decoding
    if getattr(image, "is_animated", False):
        notes.add("animated or of several pages, the first taken")
    image.load()
    # after decoding, because Pillow turns a TIFF itself and drops the tag
    turned = image.getexif().get(ORIENTATION, 1)
    extent = image.size if drafted is None else drafted[1][2:]
    smaller = min(extent) > size
    rgb = to_srgb(image, data, notes)
    rgb = square(rgb, size, Image.Resampling.HAMMING if smaller else Image.Resampling.BICUBIC, extent)
    rgb = rgb.transpose(TURNS[turned]) if turned in TURNS else rgb
    rgb.info.clear()  # comments and profiles of the source are not stored
    made = io.BytesIO()
    if encoding.format == "png":
        rgb.save(made, "png", compress_level=6)
    else:
        rgb.save(made, "jpeg", quality=encoding.quality, subsampling=0)
    return made.getvalue()


def _is_made(image: Image.Image, data: bytes, encoding: Encoding) -> bool:
    """Whether the file already has the wanted format and size, is intact, and has no comments, profile or rotation."""
    if image.mode != "RGB" or image.size != (encoding.image_size, encoding.image_size):
        return False
    if encoding.format == "png":
        plain = image.format == "PNG" and _is_plain_png(data)
    else:
        plain = image.format == "JPEG" and image.info.keys() <= PLAIN_JPEG and data.endswith(END_OF_JPEG)
    if plain:
        # decode a JPEG's grey at 1/8: still reads every coefficient, in half the time
        image.draft("L", (1, 1))
        image.load()  # a truncated picture must fail here, or it would fail in every later reader
    return plain


def _is_plain_png(data: bytes) -> bool:
    """Whether every chunk is present with the right CRC-32, and none holds metadata."""
    place = 8
    while place + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        end = place + 8 + length
        if kind not in PLAIN_PNG or data[end : end + 4] != zlib.crc32(data[place + 4 : end]).to_bytes(
            4, "big"
        ):
            return False
        place = end + 4
        if kind == b"IEND":
            return place == len(data)
    return False


def encode_mask(data: bytes, size: int) -> bytes:
    """A mask, resized and cropped with its image → an 8-bit grey png."""
    made = io.BytesIO()
    image = opened(data).convert("L")
    square(image, size, Image.Resampling.BOX, image.size).save(made, "png", compress_level=6)
    return made.getvalue()
