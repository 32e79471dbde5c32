"""Procedural pictures of shapes: the built-in data set, identical on every machine.

An object with sharp edges on a smooth or a textured background. The kind of shape is the class; colour, size, place,
rotation and background are independent of it, each drawn from a generator keyed by (seed, split, number).
"""

import math
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from workspace.exact.seeds import hashed

KINDS = ("bar", "circle", "cross", "diamond", "heart", "ring", "square", "star", "triangle")
"""Class names, sorted. There is no hexagon, because at 32 px it looks like a circle."""

COLOURS = {
    "red": (214, 45, 45),
    "orange": (240, 140, 40),
    "yellow": (240, 215, 60),
    "green": (50, 160, 70),
    "cyan": (60, 190, 205),
    "blue": (45, 85, 205),
    "purple": (140, 65, 180),
    "white": (242, 242, 242),
}
SMOOTH, TEXTURED = ("plain", "shaded"), ("striped", "checked", "dotted")
SIZES = ("small", "medium", "large")
SUPERSAMPLING = 4
MUTED, GREY = 0.5, 128.0
"""Share of grey in a background's colour; backgrounds as bright as the objects would be as important (docs/log.md)."""
SHADING = 0.5
"""Change of brightness across a shaded background, as a share of it."""


@dataclass(frozen=True)
class Drawing:
    """Parameters of the drawing.

    Attributes:
        image_size: pixels per side.
        radius: smallest and largest radius of the object, as shares of the side.
        texture_contrast: contrast of a texture, as a share of the full contrast.
        rotation: largest rotation in either direction, in degrees.
    """

    image_size: int
    radius: tuple[float, float]
    texture_contrast: float
    rotation: float


@dataclass(frozen=True)
class Shape:
    """A picture and its labels.

    Attributes:
        image: uint8 [H, W, 3].
        mask: uint8 [H, W], 255 where the object is, grey at its edge.
        kind: one of `KINDS`.
        attributes: name → value, see `attribute_values`.
        caption: in English.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    kind: str
    attributes: dict[str, str]
    caption: str


def attribute_values() -> dict[str, tuple[str, ...]]:
    """Each attribute's values."""
    return {
        "kind": tuple(KINDS),
        "colour": tuple(COLOURS),
        "size": tuple(SIZES),
        "background": ("smooth", "textured"),
        "pattern": (*SMOOTH, *TEXTURED),
        "background_colour": tuple(COLOURS),
    }


def draw_shape(drawing: Drawing, seed: int, split: str, number: int) -> Shape:
    """Draw one picture, which depends only on these arguments."""
    generator = np.random.Generator(np.random.PCG64(hashed(seed, split, number)))
    kind = KINDS[number % len(KINDS)]
    names = list(COLOURS)
    colour, ground = generator.choice(len(names), 2, replace=False)
    scale = generator.uniform()
    radius = drawing.radius[0] + scale * (drawing.radius[1] - drawing.radius[0])
    centre = generator.uniform(radius, 1 - radius, 2)
    turn = math.radians(generator.uniform(-drawing.rotation, drawing.rotation))
    coverage = _coverage(kind, drawing.image_size, radius, centre, turn)
    textured = generator.uniform() < 0.5
    pattern = str(generator.choice(TEXTURED if textured else SMOOTH))
    back = _background(pattern, COLOURS[names[ground]], drawing, generator)
    fore = np.array(COLOURS[names[colour]], np.float64) + generator.uniform(-12, 12, 3)
    pixels = coverage[..., None] * fore + (1 - coverage[..., None]) * back
    attributes = {
        "kind": kind,
        "colour": names[colour],
        "size": SIZES[min(2, int(3 * scale))],
        "background": "textured" if textured else "smooth",
        "pattern": pattern,
        "background_colour": names[ground],
    }
    return Shape(_to_bytes(pixels), _to_bytes(255 * coverage), kind, attributes, caption_of(attributes))


def caption_of(attributes: dict[str, str]) -> str:
    """'a small red ring on a striped blue background'."""
    article = "an" if attributes["size"][0] in "aeiou" else "a"
    return (
        f"{article} {attributes['size']} {attributes['colour']} {attributes['kind']} "
        f"on a {attributes['pattern']} {attributes['background_colour']} background"
    )


def _to_bytes(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.rint(np.clip(values, 0, 255)).astype(np.uint8)


def _coverage(
    kind: str, side: int, radius: float, centre: NDArray[np.float64], turn: float
) -> NDArray[np.float64]:
    """The share of each pixel that the object covers, [H, W] in [0, 1], by supersampling."""
    fine = side * SUPERSAMPLING
    grid = (np.arange(fine) + 0.5) / fine
    x, y = (grid - centre[0]) / radius, ((grid - centre[1]) / radius)[:, None]
    cos, sin = math.cos(turn), math.sin(turn)
    inside = inside_of(kind, x * cos + y * sin, y * cos - x * sin).view(np.uint8)
    rows = inside.reshape(side, SUPERSAMPLING, fine).sum(axis=1, dtype=np.uint8)
    counts: NDArray[np.uint8] = rows.reshape(side, side, SUPERSAMPLING).sum(axis=2, dtype=np.uint8)
    return counts / SUPERSAMPLING**2


def inside_of(kind: str, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether points lie in a shape of radius 1 at the origin; y points down."""
    across, along = np.abs(x), np.abs(y)
    match kind:
        case "bar":
            return (across < 0.98) & (along < 0.3)
        case "circle":
            return np.hypot(x, y) < 0.9
        case "cross":
            return ((across < 0.3) & (along < 0.95)) | ((along < 0.3) & (across < 0.95))
        case "diamond":
            return across / 0.68 + along < 1
        case "heart":
            return (1.25 * x) ** 2 + (-1.2 * y + 0.1 - np.sqrt(across) * 0.85) ** 2 < 1
        case "ring":
            distance = np.hypot(x, y)
            return (distance < 0.95) & (distance > 0.52)
        case "square":
            return (across < 0.75) & (along < 0.75)
        case "star":
            return _star(x, y)
        case _:
            return (y < 0.72) & (1.55 * across < y + 0.95)


OUTLINES = {kind: partial(inside_of, kind) for kind in KINDS}
"""Kind → function that tells whether points are inside, also used to score pictures."""


def _star(x: NDArray[np.float64], y: NDArray[np.float64], inner: float = 0.42) -> NDArray[np.bool_]:
    """A five-pointed star, one point up: inside the lines from each tip (radius 1) to the notches beside it (`inner`)."""
    angle = np.abs((np.arctan2(x, -y) + math.pi / 5) % (2 * math.pi / 5) - math.pi / 5)
    distance = np.hypot(x, y)
    along, across = distance * np.cos(angle), distance * np.sin(angle)
    notch = inner * math.cos(math.pi / 5), inner * math.sin(math.pi / 5)
    return across * (1 - notch[0]) < notch[1] * (1 - along)


def _background(
    pattern: str, colour: tuple[int, int, int], drawing: Drawing, generator: np.random.Generator
) -> NDArray[np.float64]:
    """The background's pixels [H, W, 3] in 0 … 255, darker and greyer than the objects to make edges visible."""
    side = drawing.image_size
    y, x = np.mgrid[0:side, 0:side] / side
    phase = generator.uniform(0, 2 * math.pi, 2)
    turns = generator.uniform(3.5, 5.5) * 2 * math.pi
    angle = generator.uniform(0, math.pi)
    slant = x * math.cos(angle) + y * math.sin(angle)
    waves = np.sin(turns * x + phase[0]), np.sin(turns * y + phase[1])
    match pattern:
        case "plain":
            wave = np.zeros((side, side))
        case "shaded":
            wave = SHADING * (slant - slant.mean())
        case "striped":
            wave = 0.5 * drawing.texture_contrast * np.sign(np.sin(turns * slant + phase[0]))
        case "checked":
            wave = 0.5 * drawing.texture_contrast * np.sign(waves[0] * waves[1])
        case _:
            wave = 0.5 * drawing.texture_contrast * np.sign((waves[0] + waves[1]) / 2 - 0.35)
    muted = (1 - MUTED) * np.array(colour, np.float64) + MUTED * GREY
    base = muted * generator.uniform(0.55, 0.7)
    return base * (1 + wave[..., None])
