"""Laws of the embedded data set: each picture follows from its number, and its labels tell the truth."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from demo.drawing import COLOURS, KINDS, SIZES, SMOOTH, TEXTURED, Drawing, Shape, attribute_values, draw_shape
from stages.draw_shapes import TarPlan, draw_tar, png
from workspace.exact.tar import iterate_tar

DRAWING = Drawing(image_size=32, radius=(0.3, 0.44), texture_contrast=0.4, rotation=15.0)
COUNT = 450


@pytest.fixture(scope="module")
def shapes() -> list[Shape]:
    return [draw_shape(DRAWING, 0, "train", number) for number in range(COUNT)]


def equal(one: Shape, other: Shape) -> bool:
    return (
        np.array_equal(one.image, other.image)
        and np.array_equal(one.mask, other.mask)
        and (one.kind, one.attributes, one.caption) == (other.kind, other.attributes, other.caption)
    )


def test_a_picture_depends_on_seed_split_and_number_alone(shapes: list[Shape]) -> None:
    for number in (449, 3, 77):
        assert equal(draw_shape(DRAWING, 0, "train", number), shapes[number])


def test_seed_split_and_number_each_change_the_picture(shapes: list[Shape]) -> None:
    others = [
        draw_shape(DRAWING, 1, "train", 0),
        draw_shape(DRAWING, 0, "val", 0),
        draw_shape(DRAWING, 0, "train", 9),
    ]
    assert all(other.kind == shapes[0].kind for other in others)
    assert not any(np.array_equal(other.image, shapes[0].image) for other in others)


def test_no_two_pictures_are_equal(shapes: list[Shape]) -> None:
    assert len({shape.image.tobytes() for shape in shapes}) == COUNT


def test_members_are_the_same_whatever_the_tar(tmp_path: Path) -> None:
    whole, later = (
        dict(iterate_tar(draw_tar(DRAWING, 5, tmp_path, TarPlan("val", number, numbers))))
        for number, numbers in enumerate((range(12), range(4, 12)))
    )
    assert len(later) == 5 * 8
    assert {name: whole[name] for name in later} == later


def test_pictures_do_not_change_between_versions() -> None:
    """The default data set is these pictures: published numbers rest on them."""
    drawn = [draw_shape(DRAWING, 0, "val", number) for number in range(9)]
    digest = hashlib.sha256(b"".join(shape.image.tobytes() + shape.mask.tobytes() for shape in drawn))
    assert digest.hexdigest()[:16] == "1a70e2fec71f2122"
    assert drawn[0].caption == "a medium purple bar on a plain blue background"


def test_forms_and_ranges(shapes: list[Shape]) -> None:
    for shape in shapes:
        assert (shape.image.dtype, shape.image.shape) == (np.uint8, (32, 32, 3))
        assert (shape.mask.dtype, shape.mask.shape) == (np.uint8, (32, 32))
    assert png(shapes[0].image) == png(shapes[0].image)
    assert png(shapes[0].mask)[:4] == b"\x89PNG"


def test_every_kind_is_drawn_as_often_as_any_other(shapes: list[Shape]) -> None:
    assert [shape.kind for shape in shapes] == list(KINDS) * (COUNT // len(KINDS))
    assert list(KINDS) == sorted(KINDS)


def test_attributes_are_among_their_values_and_all_values_occur(shapes: list[Shape]) -> None:
    for name, values in attribute_values().items():
        assert {shape.attributes[name] for shape in shapes} == set(values)
    for shape in shapes:
        textured = shape.attributes["pattern"] in TEXTURED
        assert textured != (shape.attributes["pattern"] in SMOOTH)
        assert shape.attributes["background"] == ("textured" if textured else "smooth")
        assert shape.attributes["colour"] != shape.attributes["background_colour"]
        assert shape.attributes["kind"] == shape.kind


def test_the_caption_names_the_attributes(shapes: list[Shape]) -> None:
    for shape in shapes:
        words = shape.attributes
        assert shape.caption == (
            f"a {words['size']} {words['colour']} {shape.kind} "
            f"on a {words['pattern']} {words['background_colour']} background"
        )


@pytest.mark.parametrize("name", ["colour", "size", "background", "pattern", "background_colour"])
def test_the_kind_says_nothing_about_the_rest(shapes: list[Shape], name: str) -> None:
    """Pearson's chi-square of the contingency table, as a multiple of its degrees of freedom: near 1 if independent."""
    values = attribute_values()[name]
    table = np.zeros((len(KINDS), len(values)))
    for shape in shapes:
        table[KINDS.index(shape.kind), values.index(shape.attributes[name])] += 1
    expected = table.sum(1, keepdims=True) * table.sum(0, keepdims=True) / COUNT
    chi_square = float(((table - expected) ** 2 / expected).sum())
    freedom = (len(KINDS) - 1) * (len(values) - 1)
    assert chi_square < freedom + 4 * np.sqrt(2 * freedom)


def without_texture(number: int) -> tuple[Shape, NDArray[np.bool_]]:
    """A picture, and where it differs from its plain background's colour."""
    shape = draw_shape(replace(DRAWING, texture_contrast=0.0), 0, "train", number)
    corner = shape.image[0, 0].astype(int)
    return shape, np.abs(shape.image.astype(int) - corner).max(axis=-1) > 0


def test_the_mask_lies_where_the_picture_differs_from_its_background() -> None:
    seen = 0
    for number in range(120):
        shape, differs = without_texture(number)
        if shape.attributes["pattern"] == "shaded" or shape.mask[0, 0]:
            continue
        assert not (differs & (shape.mask == 0)).any()
        assert (differs | (shape.mask < 32)).all()
        seen += 1
    assert seen > 60


def test_inside_the_mask_the_picture_has_the_colour_that_is_told(shapes: list[Shape]) -> None:
    for shape in shapes:
        inside = shape.image[shape.mask == 255].astype(int)
        told = np.array(COLOURS[shape.attributes["colour"]])
        assert inside.size
        assert np.abs(inside - told).max() <= 13


def test_the_objects_share_of_the_picture_lies_in_sane_bounds(shapes: list[Shape]) -> None:
    share = np.array([shape.mask.mean() / 255 for shape in shapes])
    assert share.min() > 0.03 and share.max() < 0.6
    by_size = [
        np.mean([s for s, shape in zip(share, shapes, strict=True) if shape.attributes["size"] == size])
        for size in SIZES
    ]
    assert by_size == sorted(by_size)


def test_the_object_lies_within_the_picture(shapes: list[Shape]) -> None:
    for shape in shapes:
        edge = np.concatenate([shape.mask[0], shape.mask[-1], shape.mask[:, 0], shape.mask[:, -1]])
        assert edge.mean() < 0.25 * 255, shape.kind


def test_texture_contrast_is_what_makes_a_background_textured() -> None:
    def contrast(strength: float) -> float:
        found = []
        for number in range(60):
            shape = draw_shape(replace(DRAWING, texture_contrast=strength), 0, "train", number)
            if shape.attributes["background"] == "textured":
                found.append(shape.image[shape.mask == 0].std(axis=0).mean())
        return float(np.mean(found))

    assert contrast(0.0) < 1e-6 < contrast(0.2) < contrast(0.6)


@pytest.mark.parametrize("side", [8, 32, 65])
def test_any_size_can_be_drawn(side: int) -> None:
    shape = draw_shape(replace(DRAWING, image_size=side), 0, "train", 4)
    assert shape.image.shape == (side, side, 3)
    assert shape.mask.max() > 200
