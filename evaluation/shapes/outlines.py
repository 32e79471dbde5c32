"""Outlines of shapes as signed distance maps, rendered by look-up at any size, position and angle.

A shape has radius 1 around the origin, y points down, as in demo/drawing.py. A placing is (cx, cy, r, turn): the origin's
position and the radius in pixels, the turn in radians. Shapes: B images, K placings, n = side² pixels.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

Floats = NDArray[np.float32]
Inside = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.bool_]]
"""Whether points (x, y) are inside the shape."""

STEP, HALF = 1 / 160, 1.6
POINTS = round(2 * HALF / STEP)
"""The map covers -HALF … HALF in steps of STEP radii; at a radius of 12 px a step is a thirteenth of a pixel."""
GAIN = 3.0
"""Contrast factor around a coverage of one half, so that sharp and soft edges at the same position count alike."""
ROUND = 7
"""A shape that looks the same after a seventh of a turn counts as round, because no drawn shape has seven corners."""
ANGLE_STEP = math.radians(9)


@dataclass(frozen=True)
class Outline:
    """A shape, prepared for rendering.

    Attributes:
        distance: signed distance to the outline in radii, positive inside, [POINTS²].
        area: area at radius 1.
        centroid: centroid (x, y) at radius 1.
        angles: turns to try, in radians: one period of its symmetry in steps of at most 9°.
    """

    distance: Floats
    area: float
    centroid: tuple[float, float]
    angles: Floats


@lru_cache(maxsize=32)
def outline_of(inside: Inside) -> Outline:
    """Prepare a shape; cached, because it takes a twentieth of a second."""
    line = (np.arange(POINTS) + 0.5) * STEP - HALF
    x, y = np.meshgrid(line, line)
    covered = inside(x, y)
    distance = distance_transform_edt(covered) - distance_transform_edt(~covered)
    # measure to the border between two points, not to the next point
    distance -= np.where(covered, 0.5, -0.5)
    count = covered.sum()
    period = 2 * math.pi / _fold(inside, covered, x, y)
    steps = max(1, math.ceil(period / ANGLE_STEP - 1e-6))
    return Outline(
        distance=(distance * STEP).astype(np.float32).ravel(),
        area=float(count) * STEP**2,
        centroid=(float(x[covered].sum() / count), float(y[covered].sum() / count)),
        angles=(np.arange(steps) * period / steps).astype(np.float32),
    )


def _fold(
    inside: Inside, covered: NDArray[np.bool_], x: NDArray[np.float64], y: NDArray[np.float64]
) -> float:
    """The order of the shape's rotational symmetry; infinity if it is round."""
    for fold in (ROUND, 5, 4, 3, 2):
        cos, sin = math.cos(2 * math.pi / fold), math.sin(2 * math.pi / fold)
        turned = inside(x * cos + y * sin, y * cos - x * sin)
        if (turned & covered).sum() > 0.99 * (turned | covered).sum():
            return math.inf if fold == ROUND else fold
    return 1


def render(outline: Outline, placings: Floats, side: int) -> Floats:
    """Contrast-enhanced coverage of each pixel: placings [..., 4] → [..., side²] in [0, 1]."""
    line = np.arange(side, dtype=np.float32) + 0.5
    x, y, radius, turn = (placings[..., part, None] for part in range(4))
    u, v = (line - x) / radius, (line - y) / radius
    cos, sin, middle = np.cos(turn) / STEP, np.sin(turn) / STEP, HALF / STEP
    column = (u * cos)[..., None, :] + (v * sin + middle)[..., :, None]
    row = (v * cos + middle)[..., :, None] - (u * sin)[..., None, :]
    place = np.clip(row, 0, POINTS - 1).astype(np.int32) * POINTS
    place += np.clip(column, 0, POINTS - 1).astype(np.int32)
    distance = outline.distance.take(place.reshape(*placings.shape[:-1], side * side))
    return np.clip(0.5 + GAIN * radius * distance, 0, 1)


def drawn_apart(share: Floats) -> Floats:
    """Coverage [B, side, side] with the contrast of `render`: [B, side²] in [0, 1]."""
    return np.clip(0.5 + GAIN * (share - 0.5), 0, 1).reshape(len(share), -1)


def overlap(covered: Floats, rendered: Floats) -> Floats:
    """Intersection over union of soft areas, Σ min ÷ Σ max: [..., n] against [..., n]; 0 if both are empty."""
    both = np.minimum(covered, rendered).sum(axis=-1)
    either = covered.sum(axis=-1) + rendered.sum(axis=-1) - both
    ratio: Floats = both / np.maximum(either, 1e-6)
    return ratio
