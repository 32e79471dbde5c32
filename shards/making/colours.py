"""Converts pictures of any mode to 8-bit sRGB: bit depths, ranges, palettes, transparency, profiles.

Each function that guesses adds a phrase to `notes`; these are counted and reported after the run.
"""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from shards.images.opening import NO_IMAGE, opened

WHITE = (255, 255, 255, 255)
DEPTHS = (8, 10, 12, 14, 16)
"""Possible sensor depths; a 16-bit file is taken for the smallest one that holds its brightest value."""
DARK = 64
"""The high bytes of a 16-bit picture are below this if it holds 14 bits or fewer."""
BITS_PER_SAMPLE = 258
"""A TIFF tag."""
SWAPPED = {"16B": "16L", "16L": "16B", "16N": "16B"}
"""Byte order → the opposite one, with which Pillow reads the low byte of 16 bits instead of the high one."""


def to_srgb(image: Image.Image, data: bytes, notes: set[str]) -> Image.Image:
    """A decoded picture of any mode as RGB, as a viewer shows it on white.

    Args:
        image: the decoded picture.
        data: its file's bytes.
        notes: collects guesses.
    """
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return Image.fromarray(grey_of(np.asarray(image), notes)).convert("RGB")
    profile = image.info.get("icc_profile")
    if _is_deep(image, data):
        image = _brightened(image, data, notes)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            notes.add("transparent, laid on white")
        image = Image.alpha_composite(Image.new("RGBA", image.size, WHITE), image).convert("RGB")
    if profile and image.mode in ("RGB", "CMYK", "L"):
        image = _by_profile(image, profile)
    return image if image.mode == "RGB" else image.convert("RGB")


def grey_of(values: NDArray[np.generic], notes: set[str]) -> NDArray[np.uint8]:
    """Grey values of any type → uint8, scaled by their range.

    Whole numbers that fit 16 bits are taken for a sensor's of 8, 10, 12, 14 or 16 bits, whichever is the smallest that
    holds them all. Floats in 0 … 1 are fractions, in 0 … 255 levels; anything else is stretched from its smallest to its
    largest value. Values that are not finite become black.
    """
    levels = np.asarray(values, np.float64)
    finite = np.isfinite(levels)
    if not finite.all():
        notes.add("values that are not finite, made black")
        levels = np.where(finite, levels, levels.min(where=finite, initial=0))
    low, high = float(levels.min()), float(levels.max())
    if np.issubdtype(values.dtype, np.integer) and low >= 0 and high < 1 << 16:
        bits = bits_of(int(high))
        if bits < 16:
            notes.add(f"16-bit grey that holds {bits} bits, scaled by these")
        low, high = 0.0, float((1 << bits) - 1)
    elif low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    elif low >= 0 and high <= 255:
        low, high = 0.0, 255.0
    else:
        notes.add("grey beyond 0 … 255, stretched from its least to its greatest value")
    return np.rint((levels - low) * (255 / max(high - low, 1e-300))).clip(0, 255).astype(np.uint8)


def bits_of(most: int) -> int:
    """Bits of a sensor whose largest value is `most`, 0 … 65535."""
    return next(bits for bits in DEPTHS if most < 1 << bits)


def _is_deep(image: Image.Image, data: bytes) -> bool:
    """Whether a colour picture has 16 bits per channel, of which Pillow returns the upper 8."""
    if image.format == "PNG":
        return data[24] == 16
    bits = image.getexif().get(BITS_PER_SAMPLE, 8) if image.format == "TIFF" else 8
    return bits == 16 or (isinstance(bits, tuple) and 16 in bits)


def _brightened(image: Image.Image, data: bytes, notes: set[str]) -> Image.Image:
    """A picture with 16 bits per channel, scaled if it uses fewer; else unchanged."""
    colours = np.asarray(image)[..., :3]
    if colours.max(initial=0) >= DARK:
        return image
    low = _low_bytes(data, image.mode)
    if low is None:
        notes.add("16-bit colour that is almost black: it may hold fewer bits, and is not scaled")
        return image
    deep = colours.astype(np.float64) * 256 + low[..., :3]
    bits = bits_of(int(deep.max(initial=0)))
    notes.add(f"16-bit colour that holds {bits} bits, scaled by these")
    made = Image.fromarray(np.rint(deep * (255 / ((1 << bits) - 1))).astype(np.uint8))
    if image.mode == "RGBA":
        made.putalpha(image.getchannel("A"))
    return made


def _low_bytes(data: bytes, mode: str) -> NDArray[np.uint8] | None:
    """The low bytes of a picture with 16 bits per channel; None if Pillow cannot read them."""
    image = opened(data)
    tiles = []
    for tile in image.tile:
        first, *rest = [tile.args] if isinstance(tile.args, str) else list(tile.args or ("",))
        name, _, order = str(first).partition(";")
        swapped = f"{name};{SWAPPED.get(order, order)}"
        tiles.append(tile._replace(args=(swapped, *rest) if rest else swapped))
    image.tile = tiles
    try:
        return np.asarray(image) if image.mode == mode else None
    except NO_IMAGE:
        return None


def _by_profile(image: Image.Image, profile: bytes) -> Image.Image:
    """Converts an embedded profile's colours to sRGB; ignores a damaged profile, or one for other channels, as viewers do."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(source).lower():
            return image
        turned = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, *NO_IMAGE):
        return image
    return image if turned is None else turned
