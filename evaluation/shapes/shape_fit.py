"""Does a picture show the requested shape? Compares its object with the best-fitting outline of that kind.

`shape_fit` is the highest intersection over union of the object, cut out by colour, and the kind's outline, over size, position
and angle; 1 means exactly that shape. It ignores colour, background, sharpness and pose, and no training uses it. It tolerates
differences in a small part of the area, such as a heart's notch. `shape_edge_fit` therefore compares only the rims in the same
pose (boundary IoU, Cheng et al., CVPR 2021), of which such a part is a large share.

The search: the object's moments give size and position for each angle; pattern search starts from the three best, with steps
that begin at a pixel and halve. Shapes: B images, K placings, n = side² pixels.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from evaluation.protocol import Score
from evaluation.shapes.cutout import Images, cut_out
from evaluation.shapes.outlines import Floats, Inside, Outline, drawn_apart, outline_of, overlap, render

KIND = "kind"
"""The attribute with the kind of shape."""
SIDE = 32
"""Larger pictures are reduced to less than twice this size, by averaging whole blocks."""
CHUNK = 16
SCALES = (0.9, 1.0, 1.12)
STARTS, FIRST_CLIMB, LAST_CLIMB = 3, 5, 12
SMALLEST, LARGEST = 0.05, 1.0
"""Radius, as a share of the side."""
MOVES = np.concatenate([np.eye(4), -np.eye(4)]).astype(np.float32)
TURN = 1.3
"""A turn by TURN/r moves the outline by about one pixel."""
RIM, FINER = 0.05, 3
"""Width of the rim as a share of the side, and the factor by which its resolution is increased."""
FIT = "IoU of the object, cut out by colour, with the best outline of the kind asked for over size, place and angle"
EDGE = f"IoU of the two rims inside the outlines, {RIM:.0%} of the side wide, in the same pose"


@dataclass(frozen=True)
class Fits:
    """How well pictures show their kinds, float32 [B] each, in [0, 1]: the whole shape, and its rim."""

    fit: Floats
    edge: Floats


def fit_shapes(images: Images, kinds: Sequence[str], outlines: Mapping[str, Inside]) -> Fits:
    """Fit each picture's kind to it.

    Args:
        images: uint8 [B, S, S, 3].
        kinds: each image's kind, a key of `outlines`.
        outlines: kind → function that tells whether points are inside the shape of radius 1.
    """
    fit, edge = np.zeros(len(images), np.float32), np.zeros(len(images), np.float32)
    for kind in sorted(set(kinds)):
        outline = outline_of(outlines[kind])
        of_kind = np.flatnonzero([name == kind for name in kinds])
        for rows in np.array_split(of_kind, -(-len(of_kind) // CHUNK)):
            share = cut_out(_brought_down(images[rows]))
            side = share.shape[-1]
            covered = drawn_apart(share)
            fit[rows], placing = _best_placing(outline, covered, side)
            edge[rows] = _rim_overlap(covered, render(outline, placing, side), side)
    return Fits(fit, edge)


def _brought_down(images: Images) -> Images:
    """Reduce larger pictures to 32 … 63 pixels per side; partial blocks are cut off."""
    block = max(1, images.shape[1] // SIDE)
    if block == 1:
        return images
    side = images.shape[1] // block
    blocks = images[:, : side * block, : side * block].reshape(len(images), side, block, side, block, 3)
    return np.rint(blocks.mean(axis=(2, 4))).astype(np.uint8)


def _best_placing(outline: Outline, covered: Floats, side: int) -> tuple[Floats, Floats]:
    """The highest overlap [B] of covered [B, n] with the outline, and its placing [B, 4]."""
    count = len(covered)
    placings = _first_placings(outline, covered.reshape(count, side, side))
    found = overlap(covered[:, None], render(outline, placings, side))
    best = np.argsort(-found, axis=1)[:, :STARTS]
    starts = best.shape[1]
    climb = _Climb(
        outline,
        np.repeat(covered, starts, axis=0),
        np.take_along_axis(placings, best[..., None], axis=1).reshape(-1, 4),
        np.take_along_axis(found, best, axis=1).ravel(),
        np.ones(count * starts, np.float32),
    )
    climb.go(FIRST_CLIMB)
    climb.keep(climb.found.reshape(count, starts).argmax(axis=1) + np.arange(count) * starts)
    climb.go(LAST_CLIMB)
    return climb.found, climb.placings


def _first_placings(outline: Outline, covered: Floats) -> Floats:
    """First placings from the object's area and centroid, for each angle and some scales: [B, K, 4]."""
    side = covered.shape[-1]
    line = np.arange(side) + 0.5
    area = np.maximum(covered.sum(axis=(1, 2)), 1)
    centre_x, centre_y = ((covered.sum(axis=axis) * line).sum(axis=1) / area for axis in (1, 2))
    turn, scale = (grid.ravel() for grid in np.meshgrid(outline.angles, SCALES))
    radius = np.sqrt(area / outline.area)[:, None] * scale
    radius = np.clip(radius, SMALLEST * side, LARGEST * side)
    x, y = outline.centroid
    parts = (
        centre_x[:, None] - radius * (np.cos(turn) * x - np.sin(turn) * y),
        centre_y[:, None] - radius * (np.sin(turn) * x + np.cos(turn) * y),
        radius,
        np.broadcast_to(turn, radius.shape),
    )
    return np.stack(parts, axis=-1).astype(np.float32)


@dataclass
class _Climb:
    """A pattern search from B placings at once; each round takes the best of eight single moves and of all useful ones together.

    Attributes:
        outline: the shape's outline.
        covered: [B, n], the coverage to fit.
        placings: [B, 4], the current placings.
        found: [B], the overlap there.
        step: [B], step sizes in pixels, halved when no move helps.
    """

    outline: Outline
    covered: Floats
    placings: Floats
    found: Floats
    step: Floats

    def go(self, rounds: int) -> None:
        """Run this many rounds of moves."""
        for _ in range(rounds):
            singly = self.placings[:, None] + MOVES * self._units()[:, None]
            by_one = self._overlaps(singly)
            gain = np.maximum(by_one - self.found[:, None], 0).reshape(-1, 2, 4)
            signs = np.sign(gain[:, 0] - gain[:, 1])
            jointly = (self.placings + signs * self._units())[:, None]
            tried = np.concatenate([singly, jointly], axis=1)
            overlaps = np.concatenate([by_one, self._overlaps(jointly)], axis=1)
            self._take(tried, overlaps)

    def keep(self, rows: NDArray[np.int64]) -> None:
        """Continue with only these rows."""
        for name in ("covered", "placings", "found", "step"):
            setattr(self, name, getattr(self, name)[rows])

    def _units(self) -> Floats:
        turn = TURN / self.placings[:, 2]
        return self.step[:, None] * np.stack([*[np.ones_like(turn)] * 3, turn], axis=1)

    def _overlaps(self, tried: Floats) -> Floats:
        side = round(self.covered.shape[1] ** 0.5)
        np.clip(tried[..., 2], SMALLEST * side, LARGEST * side, out=tried[..., 2])
        return overlap(self.covered[:, None], render(self.outline, tried, side))

    def _take(self, tried: Floats, overlaps: Floats) -> None:
        rows, best = np.arange(len(tried)), overlaps.argmax(axis=1)
        better = overlaps[rows, best] > self.found
        self.placings = np.where(better[:, None], tried[rows, best], self.placings)
        self.found = np.where(better, overlaps[rows, best], self.found)
        self.step = np.where(better, self.step, self.step / 2)


def _rim_overlap(covered: Floats, rendered: Floats, side: int) -> Floats:
    """Boundary IoU of [B, n] with [B, n] → [B]."""
    pairs = zip(_finer(covered, side), _finer(rendered, side), strict=True)
    return np.array([_rims_iou(*pair) for pair in pairs], np.float32)


def _finer(covered: Floats, side: int) -> NDArray[np.bool_]:
    """Whether coverage exceeds one half, at FINER times the resolution by linear interpolation: [B, FINER side, FINER side]."""
    at = np.clip((np.arange(FINER * side) + 0.5) / FINER - 0.5, 0, side - 1)
    weights = np.maximum(1 - np.abs(at[:, None] - np.arange(side)), 0).astype(np.float32)
    finer: NDArray[np.bool_] = weights @ covered.reshape(-1, side, side) @ weights.T > 0.5
    return finer


def _rims_iou(object_: NDArray[np.bool_], shape: NDArray[np.bool_]) -> float:
    mine, drawn = (
        inside & (distance_transform_edt(inside) <= RIM * len(inside)) for inside in (object_, shape)
    )
    either = (mine | drawn).sum()
    return float((mine & drawn).sum() / either) if either else 0.0


def fit_scores(
    fits: Sequence[tuple[str, float, float]], names: Sequence[str], what: str = ""
) -> dict[str, Score]:
    """`shape_fit` and `shape_edge_fit`: the median over all pictures and the median per kind; empty without pictures.

    Args:
        fits: kind, fit and edge fit of each picture.
        names: the kinds to report, if any picture has them.
        what: suffix of the name: `_real` for real pictures.
    """
    if not fits:
        return {}
    kinds = np.array([kind for kind, _, _ in fits])
    whole, edge = (np.array([row[part] for row in fits]) for part in (1, 2))
    found = dict(_medians(f"shape_fit{what}", whole, kinds, names, FIT))
    return found | dict(_medians(f"shape_edge_fit{what}", edge, kinds, names, EDGE))


def _medians(
    title: str, values: NDArray[np.float64], kinds: NDArray[np.str_], names: Sequence[str], text: str
) -> Iterator[tuple[str, Score]]:
    yield title, Score(float(np.median(values)), f"{text}; median")
    for name in names:
        of_kind = values[kinds == name]
        if of_kind.size:
            yield f"{title}_{name}", Score(float(np.median(of_kind)), f"{text}; median of {name}")
