"""Any picture → a square one of one size: short side to that size, the centre, sRGB, png or jpg."""

import io
import struct
import zlib
from dataclasses import dataclass
from typing import Literal

from PIL import Image

from shards.images.opening import opened
from shards.making.colours import to_srgb

Format = Literal["png", "jpg"]
END_OF_JPEG = b"\xff\xd9"
PLAIN_JPEG = {"jfif", "jfif_version", "jfif_unit", "jfif_density", "dpi"}
"""What PIL tells of a JPEG of one scan that holds nothing but its picture."""
PLAIN_PNG = (b"IHDR", b"IDAT", b"IEND", b"pHYs", b"sRGB")
"""Chunks of a PNG that holds nothing but its picture."""
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
"""EXIF's orientation → what turns such a photograph upright."""


@dataclass(frozen=True)
class Encoding:
    """How images are stored: pixels per side, png or jpg, quality of jpg (1-95)."""

    image_size: int
    format: Format
    quality: int


def square(
    image: Image.Image, size: int, resample: Image.Resampling, extent: tuple[float, float]
) -> Image.Image:
    """Short side to `size` (antialiased), then the centre, in one step that makes no pixel which is cut off.

    Args:
        image: as decoded.
        size: pixels per side.
        resample: the filter.
        extent: width and height of the picture in pixels of `image`: a JPEG of odd sides that is decoded at half of them
            ends inside its last pixel.
    """
    width, height = extent
    short = min(width, height)
    scaled = (max(size, round(width * size / short)), max(size, round(height * size / short)))
    left, top = (scaled[0] - size) // 2, (scaled[1] - size) // 2
    across, down = width / scaled[0], height / scaled[1]
    box = (left * across, top * down, (left + size) * across, (top + size) * down)
    return image.resize((size, size), resample, box=box)


def encode_image(data: bytes, encoding: Encoding, notes: set[str] | None = None) -> bytes:
    """Any picture → a square sRGB png or jpg; one of `NO_IMAGE` where it is none.

    Turned as its EXIF says; of an animation the first frame; transparent parts are put on white; more than 8 bits become 8
    by the range that is there; colours of an embedded profile become sRGB's. Bytes that are such a picture already, and
    nothing else, are passed through. A JPEG of many times the size is decoded at 1/2, 1/4 or 1/8, as its format offers, but
    never at less than twice the size, so that the filter has the say.

    Args:
        data: the file's bytes.
        encoding: what is made.
        notes: guesses and omissions are added, in phrases that are counted over all pictures.
    """
    image, size, notes = opened(data), encoding.image_size, set() if notes is None else notes
    if _is_made(image, data, encoding):
        return data
    drafted = image.draft("RGB", (2 * size, 2 * size))  # None where the format offers no smaller decoding
    if getattr(image, "is_animated", False):
        notes.add("animated or of several pages, the first taken")
    image.load()
    turned = image.getexif().get(
        ORIENTATION, 1
    )  # after decoding: Pillow itself turns a TIFF, and drops the tag
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
    """Whether a file's bytes are, whole, what would be made of it, without comments, profiles or a turn."""
    if image.mode != "RGB" or image.size != (encoding.image_size, encoding.image_size):
        return False
    if encoding.format == "png":
        plain = image.format == "PNG" and _is_plain_png(data)
    else:
        plain = image.format == "JPEG" and image.info.keys() <= PLAIN_JPEG and data.endswith(END_OF_JPEG)
    if plain:
        image.draft("L", (1, 1))  # of a JPEG 1/8 of the grey: every coefficient is still read, half the time
        image.load()  # a torn one is skipped here, or it would stop whoever reads it
    return plain


def _is_plain_png(data: bytes) -> bool:
    """Whether every chunk is there with a right CRC-32, and none says more than pixels."""
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
