"""Labels and splits in file names, and fields of a tar's json: taken where they are plain, said where they are not."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from shards.making.sources import list_source
from tests.field.laid_out import lay, reading_of, some, taken, tried, turned_away
from tests.field.table import Field, Row
from tests.field.tar_rows import jpg, tar

AREA = "Data: labels in file names"
JSONS = "Data: fields of a tar's json"
Outcome = Callable[[Field, Path], str]
PETS = [f"{cls}_{number}.jpg" for cls in ("Abyssinian", "great_pyrenees") for number in range(4)]
KAGGLE = [f"{cls}.{number}.jpg" for cls in ("cat", "dog") for number in range(4)]
TORN = [f"{split}_{cls}_{n}.png" for split in ("train", "test") for cls in ("cat", "dog") for n in range(4)]


def made(images: Iterable[str], texts: dict[str, str] | None = None, **changes: Any) -> Outcome:
    """What `kind: auto` (or another) makes of images of these names."""
    return lambda field, folder: taken(folder, images, texts, **changes)


def refuses(images: Iterable[str], texts: dict[str, str] | None = None, **changes: Any) -> Outcome:
    """The line in which `inspect` and `shard` refuse them."""
    return lambda field, folder: turned_away(folder, images, texts, **changes)


def numbered(form: str, *labels: str, count: int = 4) -> list[str]:
    """`count` names of each label."""
    return [form.format(label=label, number=number) for label in labels for number in range(count)]


def quiet(*images: str) -> Outcome:
    """Names that say nothing: no classes, and no line that says so."""

    def outcome(field: Field, folder: Path) -> str:
        notes = list_source("auto", str(lay(folder / "data", images))).notes
        wrong = [note for note in notes if "labels" in note or "splits" in note]
        return f"{tried(folder / 'data', folder)}; said of names: {wrong or 'nothing'}"

    return outcome


def fields(*values: object, more: dict[str, bytes] | None = None, **changes: Any) -> Outcome:
    """A tar of a picture and a json of each value."""

    def outcome(field: Field, folder: Path) -> str:
        members: dict[str, bytes] = {}
        for number, value in enumerate(values):
            members |= {f"{number:03d}.jpg": jpg(number), f"{number:03d}.json": json.dumps(value).encode()}
        tar(folder / "data.tar", members | (more or {}))
        return tried(folder / "data.tar", folder, **changes)

    return outcome


def keys(*names: str, **changes: Any) -> Outcome:
    """A tar of pictures of these names."""

    def outcome(field: Field, folder: Path) -> str:
        tar(folder / "data.tar", {name: jpg(number) for number, name in enumerate(names)})
        return tried(folder / "data.tar", folder, **changes)

    return outcome


def pasted(field: Field, folder: Path) -> str:
    """The setting that a note of an unread name gives is the one that takes it."""
    data = lay(folder / "data", numbered("obj{label}__{number}.png", *map(str, range(5))))
    note = next(note for note in list_source("auto", str(data)).notes if "look like labels" in note)
    kind: Any = note.rpartition("shard.kind: ")[2].split()[0]
    classes = list_source(kind, str(data), reading_of({})).classes
    return f"{note}: {classes}"


ROWS: tuple[Row, ...] = (
    Row("Kaggle's cats and dogs", AREA, "train/cat.0.jpg, train/dog.0.jpg …, test1/0.jpg",
        "file_names: cat 2+2, dog 2+2; seen 8 = 4 train + 4 val + 0 skipped; 3 passed over: 3 of the test split, kept apart",
        made([f"train/{name}" for name in KAGGLE] + [f"test1/{number}.jpg" for number in range(3)])),
    Row("Oxford pets in one flat folder", AREA, "Abyssinian_0.jpg, great_pyrenees_0.jpg …",
        "labels are from file names (Abyssinian_0.jpg: Abyssinian); shard.kind: folder leaves them out", made(PETS)),
    Row("labels and numbers joined in other ways", AREA, "dog-17.png, cat (3).png, beach05.tif",
        "file_names: beach 2+2, cat 2+2, dog 2+2; seen 12",
        made([*numbered("dog-{number}.png", ""), *numbered("cat ({number}).png", ""), *numbered("beach0{number}.png", "")])),
    Row("a number first, then the label", AREA, "CIFAR-10 as PNG: 0_frog.png, 1_truck.png …", "file_names: frog 2+1, truck 2+1; seen 6",
        made([f"{number}_{('frog', 'truck')[number % 2]}.png" for number in range(6)])),
    Row("ImageNet's names in one folder", AREA, "n01440764_0.JPEG, n01443537_0.JPEG …", "file_names: n01440764 2+2, n01443537 2+2; seen 8",
        made(numbered("{label}_{number}.JPEG", "n01440764", "n01443537"))),
    Row("labels of other scripts, with spaces", AREA, "猫_1.png, Hund und Katze 1.png, кот-1.png", "file_names: Hund und Katze 2+2, кот 2+2, 猫 2+2; seen 12",
        made([*numbered("猫_{number}.png", ""), *numbered("Hund und Katze {number}.png", ""), *numbered("кот-{number}.png", "")])),
    Row("labels in file names, kind folder", AREA, "cat.0.jpg, dog.0.jpg …, kind folder",
        "file names look like labels (cat 4, dog 4), and are not read: shard.kind: file_names takes them", made(KAGGLE, kind="folder")),
    Row("one camera's names", AREA, "img_000.jpg …", "folder: no classes; seen 6 = 5 train + 1 val + 0 skipped; said of names: nothing", quiet(*some("img", 6, "jpg"))),
    Row("numbers alone", AREA, "0000.jpg …", "folder: no classes; seen 6 = 4 train + 2 val + 0 skipped; said of names: nothing", quiet(*numbered("{number:04d}.jpg", "", count=6))),
    Row("several cameras' names", AREA, "DSC_1234.jpg, IMG_1.JPG, PXL_2023_1.jpg, P101.jpg, Screenshot (1).png, WhatsApp Image 1.jpg",
        "folder: no classes; seen 24 = 10 train + 14 val + 0 skipped; said of names: nothing",
        quiet(*numbered("{label}{number}.jpg", "DSC_", "IMG_", "PXL_2023_", "P10", "Screenshot (", "WhatsApp Image "))),
    Row("hashes and titles", AREA, "a3f9c1.png, red-car-12.png, sunset at sea 3.png: each once", "said of names: nothing",
        quiet("a3f9c1.png", "b77e02.png", "red-car-12.png", "sunset at sea 3.png", "0fd4aa.png", "old_house_7.png")),
    Row("frames of videos", AREA, "vid1_0001.png, vid2_0001.png …", "said of names: nothing", quiet(*numbered("vid{label}_{number}.png", "1", "2", "3"))),
    Row("labels that differ by number alone", AREA, "COIL's obj0__0.png … obj4__3.png: not sure, so said; the setting that is named takes them",
        "file names look like labels (obj0 4, obj1 4, obj2 4 and 2 others), and are not read: shard.kind: file_names takes them: ('obj0', 'obj1'", pasted),
    Row("a few labels among other names", AREA, "cat_0.png, dog_0.png … and a third of names without one",
        "file names look like labels (cat 4, dog 4), and are not read", made([*numbered("{label}_{number}.png", "cat", "dog"), *numbered("{number}.png", "")])),
    Row("the same names, kind file_names", AREA, "kind file_names", "file_names: cat 2+2, dog 2+2; seen 8 = 4 train + 4 val + 0 skipped; 4 passed over: 4 no label in the name",
        made([*numbered("{label}_{number}.png", "cat", "dog"), *numbered("{number}.png", "")], kind="file_names")),
    Row("splits in file names", AREA, "train_0.png …, test_0.png …: all would be trained on",
        "folder: no classes; seen 8 = 2 train + 6 val + 0 skipped; file names speak of splits (test 4, train 4), and are not read: shard.kind: "
        "file_names with shard.columns: {split: '(?i)(train|test)'} divides them", made(numbered("{label}_{number}.png", "train", "test"))),
    Row("splits in file names, asked for", AREA, "shard.columns: {split: '^([A-Za-z]+)'}",
        "file_names: no classes; seen 4 = 1 train + 3 val + 0 skipped; 4 passed over: 4 of the test split, kept apart",
        made(numbered("{label}_{number}.png", "train", "test"), kind="file_names", columns={"split": "^([A-Za-z]+)"})),
    Row("a split and a label in file names", AREA, "train_cat_0.png: shard.columns: {split: '^([a-z]+)', label: '_([a-z]+)_'}",
        "file_names: cat 2+2, dog 2+2; seen 8 = 4 train + 4 val + 0 skipped; 8 passed over: 8 of the test split, kept apart",
        made(TORN, kind="file_names", columns={"split": "^([a-z]+)", "label": "_([a-z]+)_"})),
    Row("COCO's names in one folder", AREA, "COCO_train2014_000000000000.jpg, COCO_val2014_000000000000.jpg …", "file names speak of splits (COCO_train2014 4, COCO_val2014 4), and are not read",
        made(numbered("COCO_{label}2014_{number:012d}.jpg", "train", "val"))),
    Row("the same names, divided", AREA, "shard.columns: {split: '(?i)(train|val)'}", "file_names: no classes; seen 8 = 4 train + 4 val",
        made(numbered("COCO_{label}2014_{number:012d}.jpg", "train", "val"), kind="file_names", columns={"split": "(?i)(train|val)"})),
    Row("a label and two numbers", AREA, "Apple Braeburn 0_100.jpg, Banana 0_100.jpg …", "file_names: Apple Braeburn 2+2, Banana 2+2; seen 8", made(numbered("{label} {number}_100.jpg", "Apple Braeburn", "Banana"))),
    Row("pages of two books", AREA, "book1_p0.png, book2_p0.png …: not sure", "file names look like labels (book1_p 4, book2_p 4), and are not read", made(numbered("{label}_p{number}.png", "book1", "book2"))),
    Row("an age in the name", AREA, "UTKFace: 25_0_1_2017.jpg; shard.columns: {label: '^([0-9]+)_'}", "file_names: 7 1+1, 25 1+1; seen 4",
        made([f"{age}_0_{number}_2017.png" for age in (7, 25) for number in range(2)], kind="file_names", columns={"label": "^([0-9]+)_"})),
    Row("kind file_names where names say nothing", AREA, "0.png …", "no labels found in the file names (0.png, 1.png, 2.png and 1 others); expected names such as cat.0.jpg",
        refuses(numbered("{number}.png", ""), kind="file_names")),
    Row("an expression that fits no name", AREA, "shard.columns: {label: '^x(.+)_'}", "shard.columns finds a label in 0 of 8 names, such as Abyssinian_0.jpg",
        refuses(PETS, kind="file_names", columns={"label": "^x(.+)_"})),
    Row("an expression that is none", AREA, "shard.columns: {label: '('}", "is not a regular expression (missing ), unterminated subpattern at position 0)",
        refuses(PETS, kind="file_names", columns={"label": "("})),
    Row("an expression without a group", AREA, "shard.columns: {label: '^[a-z]+'}", "has 0 groups; expected one, around the label: {label: '^(.+)_[0-9]+'}",
        refuses(PETS, kind="file_names", columns={"label": "^[a-z]+"})),
    Row("labels in file names, lists of the splits beside them", AREA, "cat.0.jpg …, train.txt, test.txt",
        "file_names: cat 2+1, dog 2+1; seen 6 = 4 train + 2 val + 0 skipped; 2 passed over: 2 of the test split, kept apart",
        made(KAGGLE, {"train.txt": "\n".join(n for n in KAGGLE if "3" not in n), "test.txt": "cat.3.jpg\ndog.3.jpg\n"}, seed=5)),
    Row("labels in file names and a caption of each", AREA, "cat.0.jpg and cat.0.txt …", "file_names: cat 2+2, dog 2+2; 8 captioned (a pet); seen 8",
        made(KAGGLE, {name.replace(".jpg", ".txt"): "a pet" for name in KAGGLE})),
    Row("a table of labels beside names that have others", AREA, "labels.csv: breed; the table is taken", "metadata: k0 2+2, k1 2+2; seen 8",
        made(KAGGLE, {"labels.csv": "file,label\n" + "".join(f"{name},k{n % 2}\n" for n, name in enumerate(KAGGLE))})),
    Row("masks beside their pictures", AREA, "cat_0.jpg, cat_0_mask.png …: trained on as pictures",
        "4 files are named like masks of other images and taken for images, such as cat_0_mask.png: to leave them out",
        made([*numbered("cat_{number}.jpg", ""), *numbered("cat_{number}_mask.png", "")])),
    Row("two views of each", AREA, "0_left.png, 0_right.png …: no classes", "folder: no classes; seen 8 = 2 train + 6 val + 0 skipped; file names end like parts of one data set (left 4, right 4)",
        made(numbered("{number}_{label}.png", "left", "right"))),
    Row("a table that kind folder does not look at", AREA, "kind folder, shard.tables: [labels.csv]", "shard.tables is ['labels.csv'], and shard.kind folder reads no tables; expected metadata",
        refuses(PETS, {"labels.csv": "file,label\n"}, kind="folder", tables=["labels.csv"])),
    Row("columns that kind class_folder does not look at", AREA, "shard.columns: {label: breed}", "shard.columns is {'label': 'breed'}, and shard.kind class_folder reads no columns",
        refuses([*some("cat", 2), *some("dog", 2)], kind="class_folder", columns={"label": "breed"})),
    Row("keys that carry labels", AREA, "a tar of cat_0.jpg, dog_0.jpg …", "keys look like labels (cat 4, dog 4): shard.columns: {label: name} makes them classes",
        keys(*numbered("{label}_{number}.jpg", "cat", "dog"))),
    Row("keys that carry labels, asked for", AREA, "shard.columns: {label: name}", "webdataset: cat 2+2, dog 2+2; seen 8", keys(*numbered("{label}_{number}.jpg", "cat", "dog"), columns={"label": "name"})),
    Row("a caption in a tar's json under an unusual name", JSONS, "{meta: {alt_text}}",
        "json holds texts that are not read: meta.alt_text (a cat on a mat); shard.columns: {caption: json.meta.alt_text} takes them",
        fields(*({"meta": {"alt_text": "a cat on a mat"}} for _ in range(4)))),
    Row("a caption under an unusual name, asked for", JSONS, "shard.columns: {caption: json.meta.alt_text}", "4 captioned (a cat on a mat)",
        fields(*({"meta": {"alt_text": "a cat on a mat"}} for _ in range(4)), columns={"caption": "json.meta.alt_text"})),
    Row("captions in two languages in a tar's json", JSONS, "{caption: {en, de}}", "json holds texts that are not read: caption.en (a cat on a mat), caption.de (eine Katze hier)",
        fields(*({"caption": {"en": "a cat on a mat", "de": "eine Katze hier"}} for _ in range(4)))),
    Row("a second caption in a tar's json", JSONS, "{caption, caption_de}: the first is taken", "4 captioned (a cat on a mat); seen 4 = 2 train + 2 val + 0 skipped; "
        "members: image jpg, label none, caption json.caption, mask none; `shard.columns: {image: …, label: …}` changes that; json holds texts that are not read: caption_de",
        fields(*({"caption": "a cat on a mat", "caption_de": "eine Katze hier"} for _ in range(4)))),
    Row("captions of a tar's json as a list of objects", JSONS, "{captions: [{text}, {text}]}", "4 captioned (a cat | a pet)",
        fields(*({"captions": [{"text": "a cat"}, {"text": "a pet"}]} for _ in range(4)))),
    Row("a label in a tar's json under an unusual name", JSONS, "{meta: {animal}}", "json holds what may be labels: meta.animal (cat); shard.columns: {label: json.meta.animal} takes them",
        fields(*({"meta": {"animal": ("cat", "dog")[n % 2], "url": "http://x", "id": n}} for n in range(6)))),
)  # fmt: skip
