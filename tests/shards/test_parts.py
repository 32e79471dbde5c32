"""Laws of making shards in parts: what a worker is given is what was listed, tables are lists, whoever dies changes nothing."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.layouts.image_table import ImageTable, Texts
from shards.layouts.listed import Codes, ImageList, Location, Source, SourceImage
from shards.making import writing
from shards.making.duplicates import equal, groups
from shards.making.gathering import TRIES, write_shards
from shards.making.parts import maker
from shards.making.pictures import Encoding
from shards.making.plans import ShardPlan, plan_shards, read_part, write_part
from shards.making.splits import with_splits
from tests.shards.making import labelled_images
from workspace.errors import UserError

PNG = Encoding(8, "png", 95)
NAMES = st.text(st.characters(blacklist_characters="\0"), min_size=1, max_size=12)  # lone surrogates too
PLACES = st.builds(Location, NAMES, st.integers(0, 9), st.integers(-1, 9), st.integers(-1, 9))
IMAGES = st.builds(
    SourceImage,
    NAMES,
    PLACES,
    st.sampled_from([None, "train", "val"]),
    st.none() | st.integers(0, 9),
    st.lists(NAMES, max_size=2).map(tuple),
    st.none() | st.dictionaries(NAMES, NAMES, max_size=2),
    st.none() | PLACES,
)


@given(st.lists(IMAGES, max_size=4).map(tuple))
def test_a_part_gives_a_worker_the_images_that_were_listed(
    tmp_path_factory: pytest.TempPathFactory, images: tuple[SourceImage, ...]
) -> None:
    path = tmp_path_factory.getbasetemp() / "part.jsonl"
    plan, earlier = ShardPlan("val", 7, 21, images), [Path("one/val-000007.json")]
    write_part(path, plan, earlier)
    assert read_part(path) == (plan, earlier)


def table_of(images: list[SourceImage]) -> ImageTable:
    """The same images as a table; each lies where its name says."""
    names = Texts.of(image.name for image in images)
    captions = Texts.of("".join(f"{text}\n" for text in image.captions) for image in images)
    splits = [-1 if image.split is None else ("train", "val").index(image.split) for image in images]
    classes = [-1 if image.cls is None else image.cls for image in images]
    codes = Codes(np.asarray(splits, np.int8), np.asarray(classes, np.int32))
    return ImageTable(names, captions, np.arange(len(images)), codes, Location)


@given(
    st.lists(st.tuples(st.sampled_from([None, "train", "val"]), st.integers(-1, 3)), min_size=2, max_size=30),
    st.floats(0.0, 0.9),
    st.booleans(),
)
def test_a_table_is_split_and_cut_as_a_list_is(
    facts: list[tuple[str | None, int]], fraction: float, labelled: bool
) -> None:
    images = [
        SourceImage(f"é{i}.png", Location(f"é{i}.png"), split, None if cls < 0 else cls, ("a b",) * (cls + 1))
        for i, (split, cls) in enumerate(facts)
    ]
    source = Source(ImageList(images), ("a", "b", "c", "d") if labelled else None)
    one, other = (
        with_splits(replace(source, images=found), fraction, 0)
        for found in (ImageList(images), table_of(images))
    )
    assert list(one.images) == list(other.images)
    assert replace(one, images=ImageList()) == replace(other, images=ImageList())
    told = []
    for found in (one, other):
        try:
            plans = plan_shards(found.images, fraction, 0, 4)
        except UserError as error:
            told.append(str(error))
        else:
            told.append(str([(plan.split, plan.number, plan.first, list(plan.images)) for plan in plans]))
    assert told[0] == told[1]


@given(st.lists(st.integers(0, 5), max_size=20))
def test_equal_keys_are_grouped_in_the_order_of_their_first_ones(keys: list[int]) -> None:
    expected = groups(range(len(keys)), keys.__getitem__)
    assert list(equal(np.asarray(keys, np.int64))) == expected


@pytest.mark.parametrize("always", [False, True], ids=["once", "always"])
def test_a_process_that_dies_is_replaced_and_named_after_three_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, always: bool
) -> None:
    plans = plan_shards(ImageList(labelled_images(tmp_path / "raw", 16)), 0.25, 0, 3)
    whole = write_shards(plans, PNG, tmp_path / "whole", 0.0, 1, tmp_path / "progress.json")
    killer, encode, died = plans[2].images[1], writing.members_of, tmp_path / "died"

    def dies(image: SourceImage, *more: object) -> object:
        if image == killer and (always or not died.exists()):
            died.write_text("")
            os._exit(9)
        return encode(image, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(writing, "members_of", dies)
    work = tmp_path / "work"
    if always:
        with pytest.raises(UserError, match=rf"a process died {TRIES} times, .*train/000002\.tar.* are kept"):
            write_shards(plans, PNG, work, 0.0, 2, tmp_path / "progress.json")
        assert plans[0].tar(work).is_file() and not plans[2].tar(work).exists()
        return
    made = write_shards(plans, PNG, work, 0.0, 2, tmp_path / "progress.json")
    assert made.sizes == whole.sizes
    assert [plan.tar(work).read_bytes() for plan in plans] == [
        plan.tar(whole.work).read_bytes() for plan in plans
    ]


def test_a_node_that_does_not_reach_the_source_is_named(tmp_path: Path) -> None:
    gone = str(tmp_path / "gone.png")
    with pytest.raises(
        UserError, match=r"node .* does not reach shard\.source data \(.*/gone\.png\): it must be"
    ):
        maker(PNG, tmp_path, "data", gone)
