"""Laws of scores by class."""

from pathlib import Path

import numpy as np
import pytest

from evaluation.classes import class_scores, worst, write_classes
from evaluation.features.rows import FeatureRows
from workspace.exact.manifest import read_json

NAMES = ("bar", "ring", "star", "rare")


def rows(seed: int, shift: float = 0.0, counts: tuple[int, ...] = (40, 40, 40, 3)) -> FeatureRows:
    """Features around each class's own place; the star's are moved by `shift`."""
    random = np.random.default_rng(seed)
    classes = np.repeat(np.arange(len(counts)), counts)
    features = random.normal(size=(len(classes), 6)) + 3 * np.eye(4, 6)[classes]
    features[classes == 2] += shift
    return labelled(features, classes)


def labelled(features: np.ndarray, classes: np.ndarray) -> FeatureRows:
    none = np.zeros((len(classes), 0), np.int64)
    return FeatureRows(features.astype(np.float32), none.astype(np.float32), classes, none, none)


def test_the_class_that_is_drawn_badly_comes_first_and_is_named(tmp_path: Path) -> None:
    found = class_scores(rows(0), rows(1, shift=2.0), NAMES, seed=0)
    assert next(iter(found)) == "star" and set(found) == {
        "bar",
        "ring",
        "star",
    }  # of the rare one there are 3
    assert found["star"]["kid"] > 10 * abs(found["bar"]["kid"]) and found["bar"]["precision"] > 0.5
    assert found["star"]["images"] == found["star"]["real"] == 40
    told = write_classes(rows(0), rows(1, shift=2.0), NAMES, 0, tmp_path)
    assert told.startswith("farthest from real images of their class, by kernel distance: star ")
    assert read_json(tmp_path / "classes.json")["star"] == pytest.approx(found["star"])


def test_each_class_is_scored_as_if_it_were_alone() -> None:
    real, made = rows(0), rows(1)
    alone = [
        labelled(side.features[side.classes == 1], side.classes[side.classes == 1]) for side in (real, made)
    ]
    assert class_scores(*alone, NAMES, seed=0)["ring"] == class_scores(real, made, NAMES, seed=0)["ring"]


def test_images_without_classes_have_no_scores_by_class(tmp_path: Path) -> None:
    unlabelled = labelled(rows(1, counts=(40,)).features, np.full(40, -1))
    assert write_classes(rows(0), unlabelled, NAMES, 0, tmp_path) == worst({}) == ""
    assert write_classes(None, rows(1), NAMES, 0, tmp_path) == ""
    assert not list(tmp_path.iterdir())
