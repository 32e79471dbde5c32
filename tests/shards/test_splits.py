"""Laws of the held-out fraction: of names and seed alone, every class trained, the fraction kept, next to nothing moved."""

from hypothesis import given, settings
from hypothesis import strategies as st

from shards.layouts.listed import ImageList, Location, Source, SourceImage
from shards.making.splits import UNTRAINED, with_splits

SIZES = st.lists(st.integers(1, 12), min_size=1, max_size=8)
FRACTIONS = st.floats(0.01, 0.9)


def source(sizes: list[int], split: str | None = None) -> Source:
    """As many images of each class."""
    images = [
        SourceImage(f"c{cls}/{number}.png", Location("nowhere"), split, cls)
        for cls, size in enumerate(sizes)
        for number in range(size)
    ]
    return Source(ImageList(images), tuple(f"c{cls}" for cls in range(len(sizes))))


def splits_of(found: Source) -> dict[str, str | None]:
    """Name → split."""
    return {image.name: image.split for image in found.images}


@given(SIZES, FRACTIONS, st.integers(0, 5))
def test_every_class_keeps_a_training_image_and_every_image_has_a_split(
    sizes: list[int], fraction: float, seed: int
) -> None:
    found = with_splits(source(sizes), fraction, seed)
    assert found.classes == tuple(f"c{cls}" for cls in range(len(sizes)))
    assert {image.cls for image in found.images if image.split == "train"} == set(range(len(sizes)))
    assert {image.split for image in found.images} <= {"train", "val"} and len(found.images) == sum(sizes)
    if max(sizes) > 1:
        assert any(image.split == "val" for image in found.images)


@given(SIZES, FRACTIONS, st.integers(0, 5))
def test_each_class_gives_its_share_rounded_up_or_down(sizes: list[int], fraction: float, seed: int) -> None:
    held = [0] * len(sizes)
    found = with_splits(source([*sizes, 200]), fraction, seed)
    for image in found.images:
        if image.split == "val" and image.cls is not None and image.cls < len(sizes):
            held[image.cls] += 1
    for size, count in zip(sizes, held, strict=True):
        assert min(int(size * fraction), size - 1) <= count <= min(int(size * fraction) + 1, size - 1)


@given(SIZES, FRACTIONS, st.integers(0, 5), st.data())
def test_the_order_of_the_listing_and_a_train_folder_change_nothing(
    sizes: list[int], fraction: float, seed: int, data: st.DataObject
) -> None:
    one = source(sizes)
    mixed = Source(ImageList(data.draw(st.permutations(one.images))), one.classes)
    splits = splits_of(with_splits(one, fraction, seed))
    assert splits == splits_of(with_splits(mixed, fraction, seed))
    assert splits == splits_of(with_splits(source(sizes, "train"), fraction, seed))


@settings(max_examples=40)
# Of five images with a fifth held out each class gives one. Where none does, one of all is chosen, until a class does.
@given(st.lists(st.integers(5, 12), min_size=2, max_size=6), st.floats(0.2, 0.9), st.integers(0, 5))
def test_an_added_image_moves_at_most_one_other_of_its_class(
    sizes: list[int], fraction: float, seed: int
) -> None:
    before = splits_of(with_splits(source(sizes), fraction, seed))
    after = splits_of(with_splits(source([sizes[0] + 1, *sizes[1:]]), fraction, seed))
    moved = [name for name, split in before.items() if after[name] != split]
    assert len(moved) <= 1 and all(name.startswith("c0/") for name in moved)


def test_a_validation_set_of_the_source_is_kept_and_classes_that_only_it_has_are_left_out() -> None:
    images = [
        SourceImage(f"{n}.png", Location("nowhere"), "train" if n < 4 else "val", n % 3 if n < 4 else 3)
        for n in range(6)
    ]
    found = with_splits(Source(ImageList(images), ("a", "b", "c", "d")), 0.5, 0)
    assert found.classes == ("a", "b", "c") and dict(found.passed_over) == {UNTRAINED: 2}
    assert splits_of(found) == {f"{n}.png": "train" for n in range(4)}
    assert found.notes[0].startswith(
        "1 of 4 classes have no training image and are left out, with their 2 validation images: d"
    )
