"""Opening a picture from untrusted bytes."""

import importlib
import io
import struct
import zlib

from PIL import Image, ImageFile, UnidentifiedImageError

MOST_PIXELS = 1 << 27
"""Most pixels per image, because a small file can declare a size that would fill the memory."""
NO_IMAGE = (
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
"""PIL's exceptions for bytes that are not an image, or a damaged one."""


HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
"""Brands of HEIC files."""
NO_PICTURES = ("EPS", "WMF", "GRIB", "HDF5", "BUFR", "MPEG", "FITS")
"""Formats that Pillow opens but leaves to another program to draw (EPS: a PostScript interpreter, which runs the file)."""


IN_ITS_PLACE = {
    b"version https://git-lfs": "a pointer of Git LFS, not the picture: `git lfs pull` fetches it",
    b"<!doctype html": "a web page, not the picture: it was not downloaded",
    b"<html": "a web page, not the picture: it was not downloaded",
    b"<?xml": "XML, not the picture: an SVG drawing, or a store's error",
    b"<svg": "an SVG drawing, which has no pixels",
}
"""How files begin that lie where a picture should → what they are."""


def in_its_place(data: bytes) -> str:
    """What a file that is not a picture is instead; "" if nothing is known of it."""
    head = data[:64].lstrip().lower()
    return next((told for begin, told in IN_ITS_PLACE.items() if head.startswith(begin)), "")


def opened(data: bytes) -> ImageFile.ImageFile:
    """A picture, not decoded yet; ValueError if it has more than `MOST_PIXELS`, PIL's errors if it cannot be read."""
    try:
        image = Image.open(io.BytesIO(data))
    except UnidentifiedImageError:
        if told := in_its_place(data):
            raise ValueError(told) from None
        image = _heic(data)
    if image.format in NO_PICTURES:
        raise ValueError(f"{image.format} is not read")
    if image.width * image.height > MOST_PIXELS:
        raise ValueError(f"{image.width} × {image.height} pixels are more than {MOST_PIXELS:,}")
    return image


def _heic(data: bytes) -> ImageFile.ImageFile:
    """A HEIC picture, if the package that reads them is installed."""
    if data[4:8] != b"ftyp" or data[8:12] not in HEIC:
        raise UnidentifiedImageError("no picture")
    try:
        heif = importlib.import_module("pillow_heif")
    except ImportError:
        raise ValueError("HEIC: `pip install pillow-heif` to read it") from None
    heif.register_heif_opener()
    return Image.open(io.BytesIO(data))
