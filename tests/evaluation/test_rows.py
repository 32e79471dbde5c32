"""Laws of feature rows, scores and the reference artifact."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.features.interface import Features, Images
from evaluation.features.labelled import LabelledImages, chosen_images, in_batches
from evaluation.features.reference import (
    Reference,
    ReferenceFacts,
    SecondFacts,
    too_few,
    write_mean_image,
    write_moments,
)
from evaluation.features.rows import FeatureRows, extract
from evaluation.metrics.scores import Real, accuracy_scores, few_images, sample_scores, variance_ratio
from evaluation.metrics.statistics import moments
from workspace.exact.manifest import write_manifest


class Means:
    """An extractor whose features are the mean colours; it reads the brightest channel."""

    name, dim, fingerprint, resize = "proxy", 3, "0" * 64, "none"
    heads: ClassVar = {"colour": ("red", "green", "blue")}

    def __call__(self, images: Images) -> Features:
        means = images.mean(axis=(1, 2), dtype=np.float32)
        return Features(means, {"colour": means})


def batch(seed: int, count: int) -> LabelledImages:
    random = np.random.default_rng(seed)
    classes = np.arange(count) % 3
    images = random.integers(0, 99, (count, 4, 4, 3))
    images[np.arange(count), :, :, classes] += 120
    return LabelledImages(images.astype(np.uint8), classes, classes[:, None].copy())


def some_rows(seed: int = 0, count: int = 30) -> FeatureRows:
    return extract(Means(), [batch(seed, count)], keep_logits=False)


def test_rows_do_not_depend_on_how_images_are_batched() -> None:
    whole = batch(0, 7)
    parts = [
        LabelledImages(whole.images[at : at + 3], whole.classes[at : at + 3], whole.expected[at : at + 3])
        for at in (0, 3, 6)
    ]
    together, apart = (extract(Means(), batches, keep_logits=False) for batches in ([whole], parts))
    np.testing.assert_array_equal(together.features, apart.features)
    np.testing.assert_array_equal(together.predicted, apart.predicted)


def test_rows_are_the_same_after_a_trip_to_disk(tmp_path: Path) -> None:
    rows = some_rows()
    rows.save(tmp_path / "rows.safetensors")
    loaded = FeatureRows.load(tmp_path / "rows.safetensors")
    for name, value in vars(rows).items():
        np.testing.assert_array_equal(getattr(loaded, name), value)


def test_a_shard_without_chosen_images_adds_nothing() -> None:
    rows, none = some_rows(), extract(Means(), [], keep_logits=False)
    assert len(none) == 0
    np.testing.assert_array_equal(FeatureRows.concatenate([none, rows, none]).features, rows.features)


def test_accuracy_counts_the_images_whose_label_is_known() -> None:
    rows = some_rows(count=4)
    rows.expected[:] = [[0], [1], [0], [-1]]
    assert rows.accuracy(["colour"]) == {"colour": pytest.approx(2 / 3)}
    assert accuracy_scores(rows, ["colour"], "colour")["proxy_accuracy"].value == pytest.approx(2 / 3)
    rows.expected[:] = -1
    assert rows.accuracy(["colour"]) == {}


@given(st.integers(1, 50), st.one_of(st.none(), st.integers(1, 60)), st.integers(0, 99))
def test_the_draw_of_images_ascends_and_has_no_doubles(count: int, most: int | None, seed: int) -> None:
    chosen = chosen_images(count, most, seed)
    assert len(chosen) == min(count, most or count)
    assert (np.diff(chosen) > 0).all()
    assert 0 <= chosen[0] <= chosen[-1] < count


@given(st.lists(st.integers()), st.integers(1, 9))
def test_batches_hold_everything_once_in_order(items: list[int], size: int) -> None:
    found = list(in_batches(items, size))
    assert [item for part in found for item in part] == items
    assert all(len(part) == size for part in found[:-1])


def test_samples_equal_to_the_reference_have_the_best_scores() -> None:
    rows = some_rows()
    scores = sample_scores("proxy", Real(rows, moments(rows.features)), rows, seed=0)
    assert scores["proxy_fd"].value == pytest.approx(0, abs=1e-2)
    assert scores["proxy_precision"].value == scores["proxy_recall"].value == 1
    assert scores["within_class_variance_ratio"].value == pytest.approx(1)
    assert "fid" not in scores


def test_one_picture_a_class_has_no_variance_within() -> None:
    real = some_rows()
    collapsed = FeatureRows(
        np.eye(3, dtype=np.float32)[real.classes], real.logits, real.classes, real.expected, real.predicted
    )
    assert variance_ratio(real, collapsed)["within_class_variance_ratio"].value == pytest.approx(0)


def test_samples_without_classes_are_compared_as_a_whole() -> None:
    real = some_rows()
    unknown = FeatureRows(2 * real.features, real.logits, np.full(30, -1), real.expected, real.predicted)
    assert variance_ratio(real, unknown)["variance_ratio"].value == pytest.approx(4)


FACTS = ReferenceFacts(
    features="proxy",
    dim=3,
    weights="0" * 64,
    resize="none",
    heads={"colour": ("red", "green", "blue")},
    class_head="colour",
    classes=("red", "green", "blue"),
    image_size=4,
    images={"train": 30, "val": 30},
    drawn_from={"train": 30, "val": 30},
    seed=0,
    fid_split="val",
)


def test_fewer_images_than_features_are_told() -> None:
    rows = some_rows()
    real = Real(rows, moments(rows.features), split="val")
    assert few_images(FACTS, real, 30) == []
    wide = replace(FACTS, dim=30)
    (both, side) = few_images(wide, real, 30), few_images(wide, real, 31)
    assert [line.partition(" against ")[0] for line in both] == ["30 scored images", "30 real images (val)"]
    assert len(side) == len(few_images(replace(FACTS, dim=29), real, 29)) == 1
    assert "compare at equal counts only" in side[0]


def test_a_reference_reads_back_what_was_written(tmp_path: Path) -> None:
    rows = some_rows()
    for split in ("train", "val"):
        rows.save(tmp_path / f"{split}.safetensors")
    write_moments(tmp_path, {"train": moments(rows.features), "val": moments(rows.features)})
    write_mean_image(tmp_path, batch(0, 30).images.sum(axis=0, dtype=np.int64), 30)
    write_manifest(tmp_path, "reference", asdict(FACTS), made_from={})
    reference = Reference.open(tmp_path)
    assert reference.facts == FACTS
    np.testing.assert_array_equal(reference.moments("val").covariance, moments(rows.features).covariance)
    np.testing.assert_array_equal(reference.rows("val").features, rows.features)
    assert np.abs(reference.mean_image() - batch(0, 30).images.mean(axis=0)).max() <= 0.5


def test_splits_too_small_for_a_statistic_are_named_with_the_setting_before_the_work() -> None:
    assert too_few(replace(FACTS, images={"train": 3000, "val": 300})) == []
    wide = replace(FACTS, dim=512, images={"train": 1000, "val": 90}, drawn_from={"train": 5000, "val": 90})
    (dims, few) = too_few(wide)
    assert (
        "val has 90 images, no more than proxy (512) have dimensions" in dims and "shard.val_fraction" in dims
    )
    assert few.startswith("val has 90 images: intervals")
    limited = too_few(
        replace(wide, images={"train": 400, "val": 600}, drawn_from={"train": 5000, "val": 600})
    )
    assert len(limited) == 1 and "raise reference.max_images" in limited[0]
    two = replace(wide, second=SecondFacts("efficientnet_lite0", 1280, "0" * 64, "none"))
    assert "train has 1,000 images, no more than efficientnet_lite0 (1,280)" in too_few(two)[0]
