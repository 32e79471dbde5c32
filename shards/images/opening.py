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


def opened(data: bytes) -> ImageFile.ImageFile:
    """A picture, not decoded yet; ValueError if it has more than `MOST_PIXELS`, PIL's errors if it cannot be read."""
    try:
        image = Image.open(io.BytesIO(data))
    except UnidentifiedImageError:
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
