"""Laws of the judge of drawn shapes: real ones fit, others do not, and pose, colour and background do not matter."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from demo.drawing import KINDS, OUTLINES, Drawing, Shape, draw_shape, inside_of
from evaluation.features.labelled import soften
from evaluation.shapes.cutout import cut_out
from evaluation.shapes.outlines import drawn_apart, outline_of, overlap, render
from evaluation.shapes.shape_fit import KIND, Fits, fit_scores, fit_shapes

SIDE = 32
DEMO = Drawing(SIDE, (0.32, 0.44), 0.2, 15.0)
Points = NDArray[np.float64]
Pixels = NDArray[np.uint8]


def fits(images: Pixels, kind: str) -> Fits:
    return fit_shapes(images, [kind] * len(images), OUTLINES)


def painted(inside: Callable[[Points, Points], NDArray[np.bool_]], turn: float = 0.1) -> Pixels:
    """A shape of radius 12 px that the demo does not draw, yellow on dark grey, [1, 32, 32, 3]."""
    line = ((np.arange(4 * SIDE) + 0.5) / 4 - SIDE / 2) / 12
    x, y = np.meshgrid(line, line)
    cos, sin = math.cos(turn), math.sin(turn)
    covered = (
        inside(x * cos + y * sin, y * cos - x * sin).reshape(SIDE, 4, SIDE, 4).mean(axis=(1, 3))[..., None]
    )
    return np.rint(covered * (240, 215, 60) + (1 - covered) * (70, 80, 75)).astype(np.uint8)[None]


@pytest.fixture(scope="module")
def drawn() -> list[Shape]:
    return [draw_shape(DEMO, 5, "val", number) for number in range(8 * len(KINDS))]


@pytest.fixture(scope="module")
def of_kind(drawn: list[Shape]) -> dict[str, Pixels]:
    return {kind: np.stack([shape.image for shape in drawn if shape.kind == kind]) for kind in KINDS}


@pytest.fixture(scope="module")
def matrix(of_kind: dict[str, Pixels]) -> NDArray[np.float64]:
    """Median fit of two images of each kind (rows) with each kind's outline (columns)."""
    rows = [[np.median(fits(of_kind[mine][:2], other).fit) for other in KINDS] for mine in KINDS]
    return np.array(rows)


@pytest.mark.parametrize("background", ["smooth", "textured"])
def test_real_images_of_each_kind_fit_at_least_095(drawn: list[Shape], background: str) -> None:
    chosen = [shape for shape in drawn if shape.attributes["background"] == background]
    found = fit_shapes(np.stack([s.image for s in chosen]), [s.kind for s in chosen], OUTLINES)
    for kind in KINDS:
        mine = [shape.kind == kind for shape in chosen]
        assert np.median(found.fit[mine]) >= 0.95, kind
        assert np.median(found.edge[mine]) >= 0.9, kind


def test_the_object_that_is_cut_out_is_the_one_that_was_drawn(drawn: list[Shape]) -> None:
    share = cut_out(np.stack([shape.image for shape in drawn]))
    masks = np.stack([shape.mask for shape in drawn]).astype(np.float32) / 255
    assert overlap(drawn_apart(share), drawn_apart(masks)).min() > 0.98


def test_soft_pictures_fit_nearly_as_well_as_sharp_ones(of_kind: dict[str, Pixels]) -> None:
    for kind in KINDS:
        soft = np.stack([soften(image) for image in of_kind[kind]])
        assert np.median(fits(soft, kind).fit) > 0.85, kind


def test_each_kind_fits_its_own_outline_and_no_other(matrix: NDArray[np.float64]) -> None:
    own = matrix.diagonal()
    others = matrix - np.diag(own)
    assert own.min() > 0.95
    assert others.max() < 0.88


@pytest.mark.parametrize("kind", KINDS)
def test_an_outline_fits_its_own_rendering_wholly(kind: str) -> None:
    outline = outline_of(OUTLINES[kind])
    covered = render(outline, np.array([[15.3, 16.8, 11.7, 0.2]], np.float32), SIDE)
    assert overlap(covered, covered) == pytest.approx(1)
    colours = covered.reshape(1, SIDE, SIDE, 1) * np.array([200.0, 60, 60]) + 30
    assert fits(np.rint(colours).astype(np.uint8), kind).fit[0] > 0.98


@pytest.mark.parametrize("kind", ["heart", "star", "bar"])
def test_place_turn_mirror_and_colour_do_not_matter(of_kind: dict[str, Pixels], kind: str) -> None:
    plain = painted(OUTLINES[kind])
    same = {
        "moved": np.roll(plain, (3, -3), axis=(1, 2)),
        "turned by a quarter": np.rot90(plain, axes=(1, 2)),
        "turned by 37°": painted(OUTLINES[kind], math.radians(37)),
        "mirrored": plain[:, :, ::-1],
        "other colours": plain[..., ::-1],
    }
    mine = fits(plain, kind)
    for what, image in same.items():
        found = fits(np.ascontiguousarray(image), kind)
        assert found.fit[0] == pytest.approx(mine.fit[0], abs=0.015), what
    large = fits(plain.repeat(4, axis=1).repeat(4, axis=2), kind)
    assert large.fit[0] == mine.fit[0]
    assert large.edge[0] == mine.edge[0]


def test_the_more_is_cut_away_the_worse_it_fits() -> None:
    def gap(half: float) -> Pixels:
        return painted(lambda x, y: inside_of("ring", x, y) & (np.abs(np.arctan2(y, x)) >= half))

    found = [fits(gap(math.radians(half)), "ring").fit[0] for half in (0, 12, 25, 45, 70)]
    assert all(more > less + 0.02 for more, less in zip(found, found[1:], strict=False)), found


@pytest.mark.parametrize(
    ("kind", "inside", "bar"),
    [
        ("star", lambda x, y: np.hypot(x, y) < 0.8, 0.75),
        ("ring", lambda x, y: np.hypot(x, y) < 0.95, 0.75),
        ("ring", lambda x, y: inside_of("ring", x, y) & (x < 0.5), 0.85),
        ("heart", lambda x, y: inside_of("heart", x, y) & (x < 0.05), 0.75),
        ("cross", lambda x, y: inside_of("cross", x, y) & (x < 0.35), 0.85),
    ],
)
def test_a_blob_a_disc_a_broken_ring_half_a_heart_and_a_cross_of_three_arms_fit_badly(
    kind: str, inside: Callable[[Points, Points], NDArray[np.bool_]], bar: float
) -> None:
    assert fits(painted(inside), kind).fit[0] < bar


def test_the_rim_tells_what_the_area_forgives(of_kind: dict[str, Pixels]) -> None:
    filled = painted(lambda x, y: inside_of("heart", x, y) | ((np.abs(x) < 0.42) & (y < 0) & (y > -1.05)))
    polygon = painted(lambda x, y: (np.abs(y) < 0.8) & (np.abs(x) * 0.866 + np.abs(y) * 0.5 < 0.8))
    for kind, image in {"heart": filled, "circle": polygon}.items():
        assert fits(image, kind).edge[0] < fits(of_kind[kind], kind).edge.min() - 0.04, kind


@pytest.mark.parametrize("kind", ["bar", "ring"])
def test_pictures_of_nothing_have_a_finite_low_fit(kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3), dtype=np.uint8)
    nothing = np.concatenate([np.zeros_like(noise), np.full_like(noise, 255), noise])
    found = fits(nothing, kind)
    assert np.isfinite(found.fit).all() and found.fit.min() >= 0 and found.fit.max() < 0.7


def test_scores_are_medians_over_all_pictures_and_over_each_kind() -> None:
    rows = [("bar", 0.2, 0.1), ("bar", 0.4, 0.1), ("star", 0.9, 0.7)]
    scores = {name: score.value for name, score in fit_scores(rows, KINDS).items()}
    assert scores == pytest.approx(
        {
            "shape_fit": 0.4,
            "shape_fit_bar": 0.3,
            "shape_fit_star": 0.9,
            "shape_edge_fit": 0.1,
            "shape_edge_fit_bar": 0.1,
            "shape_edge_fit_star": 0.7,
        }
    )
    assert fit_scores([], KINDS) == {}
    assert KIND == "kind"
