"""Opening a picture from bytes that nobody vouches for."""

import importlib
import io
import struct
import zlib

from PIL import Image, ImageFile, UnidentifiedImageError

MOST_PIXELS = 1 << 27
"""Pixels of an image at most, so that a small file cannot ask for all memory."""
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
"""What PIL raises at bytes that are not an image, or a broken one."""


HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
"""Brands of HEIC files."""
NO_PICTURES = ("EPS", "WMF", "GRIB", "HDF5", "BUFR", "MPEG", "FITS")
"""What Pillow opens and another program would have to draw (of EPS: a PostScript interpreter that runs what it is given)."""


def opened(data: bytes) -> ImageFile.ImageFile:
    """A picture that is not decoded yet; ValueError where it has more than `MOST_PIXELS`, PIL's errors where it is none."""
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
    """A HEIC, where the package that reads it is installed."""
    if data[4:8] != b"ftyp" or data[8:12] not in HEIC:
        raise UnidentifiedImageError("no picture")
    try:
        heif = importlib.import_module("pillow_heif")
    except ImportError:
        raise ValueError("HEIC: `pip install pillow-heif` to read it") from None
    heif.register_heif_opener()
    return Image.open(io.BytesIO(data))
