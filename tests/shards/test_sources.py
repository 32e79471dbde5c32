"""Laws of the sources: what is listed, how it is labelled and split, and how mistakes are told."""

import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from demo.drawing import KINDS, Drawing, attribute_values, draw_shape
from shards.layouts.listed import ImageList
from shards.layouts.reading import Reading
from shards.making.plans import plan_shards
from shards.making.sources import Kind, list_source
from stages.draw_shapes import members_of, png
from tests.committed import ROOT
from tests.shards.making import encoded, picture, write_pictures
from workspace.errors import UserError
from workspace.exact.manifest import write_manifest
from workspace.exact.seeds import hashed_unit
from workspace.exact.tar import TarWriter

Real = Callable[[str, int], Path]


def names_of(kind: Kind, source: object) -> list[str]:
    return [image.name for image in list_source(kind, str(source)).images]


def test_a_folder_is_listed_at_any_depth_sorted_without_what_is_no_image(tmp_path: Path) -> None:
    write_pictures(tmp_path, ["b.png", "a/c.PNG", "a/b/d.jpeg"])
    for name in ("notes.txt", ".hidden.png", "a/data.npz"):
        (tmp_path / name).write_bytes(b"")
    found = list_source("folder", str(tmp_path))
    assert [image.name for image in found.images] == ["a/b/d.jpeg", "a/c.PNG", "b.png"]
    assert found.classes is None
    assert found.images[2].data.read() == encoded(picture(0))
    assert {image.split for image in found.images} == {None}


def test_class_folders_number_their_classes_by_name(tmp_path: Path) -> None:
    write_pictures(tmp_path, ["roses/1.png", "daisy/2.png", "daisy/deep/3.png"])
    found = list_source("class_folder", str(tmp_path))
    assert found.classes == ("daisy", "roses")
    assert {image.name: image.cls for image in found.images} == {
        "daisy/2.png": 0,
        "daisy/deep/3.png": 0,
        "roses/1.png": 1,
    }
    assert {image.split for image in found.images} == {None}


@pytest.mark.parametrize("val", ["val", "validation", "Dev", "valid_set"])
def test_split_folders_above_the_class_folders_are_kept(tmp_path: Path, val: str) -> None:
    write_pictures(tmp_path, ["train/b/1.png", "train/a/2.png", f"{val}/b/3.png"])
    found = list_source("class_folder", str(tmp_path))
    assert found.classes == ("a", "b")
    assert {(image.name, image.split, image.cls) for image in found.images} == {
        ("train/a/2.png", "train", 0),
        ("train/b/1.png", "train", 1),
        (f"{val}/b/3.png", "val", 1),
    }


def test_a_class_may_be_called_test_where_the_user_says_so(tmp_path: Path) -> None:
    write_pictures(tmp_path, ["test/1.png", "other/2.png"])
    with pytest.raises(
        UserError, match=r"test/ is named like a split, and beside it is other/.*\{test: class\}"
    ):
        list_source("class_folder", str(tmp_path))
    found = list_source("class_folder", str(tmp_path), Reading(roles={"test": "class"}))
    assert found.classes == ("other", "test")


def test_an_image_in_no_class_folder_is_named(tmp_path: Path) -> None:
    write_pictures(tmp_path, ["a/1.png", "loose.png"])
    with pytest.raises(UserError, match=r"loose\.png is in no class folder; expected CLASS/NAME\.jpg"):
        list_source("class_folder", str(tmp_path))


def coco(folder: Path) -> None:
    write_pictures(folder, ["train2017/1.jpg", "train2017/2.jpg", "val2017/3.jpg"])
    for split, numbers in (("train2017", (1, 2)), ("val2017", (3,))):
        rows = [(n, text) for n in numbers for text in (f"Picture {n}.\n", f" again  {n}", " ")]
        value = {
            "images": [{"id": n, "file_name": f"{n}.jpg"} for n in numbers],
            "annotations": [{"image_id": n, "caption": text} for n, text in rows],
        }
        (folder / "annotations").mkdir(exist_ok=True)
        (folder / "annotations" / f"captions_{split}.json").write_text(json.dumps(value))


def test_coco_gives_captions_of_one_line_and_its_splits(tmp_path: Path) -> None:
    coco(tmp_path)
    found = list_source("coco", str(tmp_path)).images
    assert [(image.name, image.split, image.captions) for image in found] == [
        ("train2017/1.jpg", "train", ("Picture 1.", "again 1")),
        ("train2017/2.jpg", "train", ("Picture 2.", "again 2")),
        ("val2017/3.jpg", "val", ("Picture 3.", "again 3")),
    ]


def test_coco_without_annotations_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"annotations holds no captions_\*\.json"):
        list_source("coco", str(tmp_path))


def draw(folder: Path, drop: str = "") -> None:
    """The artifact of draw_shapes, small; without the members of this extension."""
    for split in ("train", "val"):
        with TarWriter(folder / f"{split}.tar") as tar:
            for number in range(9):
                shape = draw_shape(Drawing(12, (0.3, 0.44), 0.4, 15.0), 0, split, number)
                for extension, content in members_of(shape).items():
                    if extension != drop:
                        tar.add(f"{split}/{shape.kind}/{number:06d}.{extension}", content)
    facts = {"classes": list(KINDS), "attributes": attribute_values(), "counts": {"train": 9, "val": 9}}
    write_manifest(folder, "shapes", facts, {})


def test_shapes_come_with_class_caption_attributes_and_mask(tmp_path: Path) -> None:
    draw(tmp_path)
    found = list_source("shapes", str(tmp_path))
    assert found.classes == KINDS
    assert [image.name for image in found.images] == sorted(image.name for image in found.images)
    assert len(found.images) == 18
    assert found.attributes is not None
    for image in found.images:
        assert image.cls is not None and image.attributes is not None and image.mask is not None
        split, kind, number = image.name.removesuffix(".png").split("/")
        assert (image.split, KINDS[image.cls], image.attributes["kind"]) == (split, kind, kind)
        drawn = draw_shape(Drawing(12, (0.3, 0.44), 0.4, 15.0), 0, split, int(number))
        assert image.captions == (drawn.caption,)
        assert (image.data.read(), image.mask.read()) == (png(drawn.image), png(drawn.mask))
        assert all(value in found.attributes[name] for name, value in image.attributes.items())


@pytest.mark.parametrize("lost", ["png", "txt", "attributes.json", "mask.png"])
def test_a_shape_that_lacks_a_member_is_told(tmp_path: Path, lost: str) -> None:
    draw(tmp_path, drop=lost)
    with pytest.raises(
        UserError, match=rf"train/bar/000000 lacks {lost}: run `dvc repro demo/dvc.yaml:draw_shapes`"
    ):
        list_source("shapes", str(tmp_path))


def test_drawn_shapes_are_a_webdataset_too(tmp_path: Path) -> None:
    draw(tmp_path)
    found = list_source("webdataset", str(tmp_path / "*.tar"))
    assert len(found.images) == 18
    assert [image.cls for image in found.images[:9]] == list(range(9))


def test_shapes_without_their_manifest_say_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run `dvc repro demo/dvc.yaml:draw_shapes`"):
        list_source("shapes", str(tmp_path))


def write_tar(path: Path, samples: dict[str, dict[str, bytes]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with TarWriter(path) as tar:
        for key, members in samples.items():
            for name, data in members.items():
                tar.add(f"{key}.{name}", data)


def test_existing_tars_give_images_classes_captions_and_masks_by_a_glob(tmp_path: Path) -> None:
    image, mask = encoded(picture(0)), encoded(picture(1)[..., 0])
    write_tar(
        tmp_path / "0.tar", {"in/a": {"png": image, "cls": b"2\n", "txt": b"one\ntwo", "mask.png": mask}}
    )
    write_tar(tmp_path / "1.tar", {"b": {"JPG": image, "cls": b"0", "json": b"{}"}, "c": {"json": b"{}"}})
    found = list_source("webdataset", str(tmp_path / "*.tar"))
    first, second = found.images
    assert (first.name, second.name) == ("0.tar/in/a.png", "1.tar/b.jpg")
    assert (first.cls, second.cls, found.classes) == (2, 0, ("0000", "0001", "0002"))
    assert (first.captions, second.captions) == (("one", "two"), ())
    assert first.data.read() == second.data.read() == image
    assert first.mask is not None and first.mask.read() == mask
    assert second.mask is None


def test_tars_of_one_name_in_two_folders_keep_their_images_apart(tmp_path: Path) -> None:
    for folder in ("x", "y"):
        write_tar(tmp_path / folder / "0.tar", {"a": {"png": encoded(picture(0))}})
    assert names_of("webdataset", tmp_path / "*" / "0.tar") == ["x/0.tar/a.png", "y/0.tar/a.png"]


def test_a_torn_tar_of_the_source_is_told(tmp_path: Path) -> None:
    path = tmp_path / "0.tar"
    write_tar(path, {"a": {"png": encoded(picture(0))}, "b": {"png": encoded(picture(1))}})
    with tarfile.open(path) as tar:
        second = tar.getmembers()[1].offset
    whole = path.read_bytes()
    for cut in (second + 100, second + 600):
        path.write_bytes(whole[:cut])
        with pytest.raises(UserError, match=r"0\.tar is (not a plain tar|truncated)"):
            list_source("webdataset", str(path))


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"a": {"png": b"", "cls": b"1"}, "b": {"png": b""}}, r"1 of 2 samples have a \.cls"),
        ({"a": {"png": b"", "cls": b"99999"}}, "a label says 99999; expected a class number"),
        ({"a": {"json": b"{}"}}, "holds no images"),
    ],
)
def test_tars_that_do_not_fit_are_told(
    tmp_path: Path, members: dict[str, dict[str, bytes]], message: str
) -> None:
    write_tar(tmp_path / "0.tar", members)
    with pytest.raises(UserError, match=message):
        list_source("webdataset", str(tmp_path / "0.tar"))


def test_a_source_of_tars_never_runs_a_shell(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="of which nothing is run: refused"):
        list_source("webdataset", f"pipe:touch {tmp_path}/ran")
    with pytest.raises(UserError, match="does not exist; expected a tar, a folder of tars"):
        list_source("webdataset", str(tmp_path / "*.tar"))


def test_a_source_that_is_missing_or_empty_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere does not exist; expected a folder of images"):
        list_source("folder", str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="holds no images"):
        list_source("folder", str(tmp_path))
    (tmp_path / "a.txt").write_text("1\n")
    with pytest.raises(
        UserError, match=r"is a file and no list of images.*make one with `python -m shards\.list"
    ):
        list_source("folder", str(tmp_path / "a.txt"))


def splits_of(names: list[str], folder: Path, seed: int = 0) -> dict[str, str]:
    write_pictures(folder, names)
    plans = plan_shards(list_source("folder", str(folder)).images, 0.3, seed, 7)
    return {image.name: plan.split for plan in plans for image in plan.images}


def test_adding_files_moves_none_from_one_split_to_the_other(tmp_path: Path) -> None:
    few = splits_of([f"{number}.png" for number in range(40)], tmp_path)
    more = splits_of([f"{number}.png" for number in range(90)], tmp_path)
    assert {name: more[name] for name in few} == few
    assert 0.15 < np.mean([split == "val" for split in more.values()]) < 0.45
    assert splits_of([], tmp_path, seed=1) != more


def test_shards_are_cut_whole_in_an_order_that_the_seed_decides(tmp_path: Path) -> None:
    write_pictures(tmp_path, [f"{number}.png" for number in range(40)])
    images = list_source("folder", str(tmp_path)).images
    plans = plan_shards(images, 0.3, 0, 7)
    for split in ("train", "val"):
        own = [plan for plan in plans if plan.split == split]
        assert [plan.number for plan in own] == list(range(len(own)))
        assert [plan.first for plan in own] == [7 * number for number in range(len(own))]
        assert all(len(plan.images) == 7 for plan in own[:-1])
    orders = [
        [image.name for plan in plan_shards(listed, 0.3, seed, 7) for image in plan.images]
        for seed, listed in ((0, images), (0, ImageList(images[::-1])), (1, images))
    ]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2]) == sorted(image.name for image in images)


def test_an_empty_split_is_told(tmp_path: Path) -> None:
    write_pictures(tmp_path, ["a.png"])
    with pytest.raises(UserError, match=r"the split val of shard\.source would be empty: of 1 images"):
        plan_shards(list_source("folder", str(tmp_path)).images, 0.0, 0, 7)


def test_names_of_any_bytes_have_their_place_in_the_order() -> None:
    assert 0 <= hashed_unit(0, "caf\udce9.png") < 1
    assert hashed_unit(0, "a") != hashed_unit(1, "a")


def test_real_flowers_are_five_classes(real: Real) -> None:
    found = list_source("class_folder", str(real("flowers", 3)))
    assert found.classes == ("daisy", "dandelion", "roses", "sunflowers", "tulips")
    assert [image.cls for image in found.images] == [number for number in range(5) for _ in range(3)]


def test_real_faces_are_a_folder(real: Real) -> None:
    found = list_source("folder", str(real("faces", 4)))
    assert [image.name for image in found.images] == [f"{number:05d}.jpg" for number in range(4)]


def test_real_coco_has_about_five_captions_an_image(real: Real) -> None:
    folder = real("coco", 0)
    source = ROOT.parent / "shared" / "data" / "coco"
    for name in ("annotations", "train2017", "val2017"):
        (folder / name).symlink_to(source / name)
    found = list_source("coco", str(folder)).images
    assert {image.split for image in found} == {"train", "val"}
    assert all(Path(image.data.path).is_file() for image in found)
    assert all(5 <= len(image.captions) <= 8 for image in found)
