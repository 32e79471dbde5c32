"""Neighbours of the layouts that people have: lists of splits, names in other forms, what is beside the images and not read."""

import json
import os
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path

from tests.field.laid_out import lay, some, taken, tried, turned_away
from tests.field.place import picture_bytes
from tests.field.table import Field, Row

AREA = "Data: neighbours of known layouts"
Outcome = Callable[[Field, Path], str]
Texts = dict[str, str | bytes]
FOUR = [f"{number}.png" for number in range(4)]
PETS = [*some("cat", 4), *some("dog", 4)]


def made(images: list[str], texts: Texts | None = None, **changes: object) -> Outcome:
    """What `kind: auto` (or another) makes of images with these files beside them."""
    return lambda field, folder: taken(folder, images, texts, **changes)


def refuses(images: list[str], texts: Texts | None = None, **changes: object) -> Outcome:
    """The line in which `inspect` and `shard` refuse them."""
    return lambda field, folder: turned_away(folder, images, texts, **changes)


def lines(*names: str) -> str:
    """A name per line."""
    return "".join(f"{name}\n" for name in names)


def labels(*names: str, column: str = "file") -> str:
    """A table of names and of the labels k0 and k1, in turn."""
    return f"{column},label\n" + "".join(f"{name},k{number % 2}\n" for number, name in enumerate(names))


def of_each(form: str, numbers: range, classes: tuple[str, ...] = ("cat", "dog")) -> str:
    """A list of some images of each class."""
    return lines(*(form.format(cls=cls, number=number) for cls in classes for number in numbers))


def emptied(field: Field, folder: Path) -> str:
    lay(folder / "data", PETS)
    (folder / "data" / "bird" / "adult").mkdir(parents=True)
    return tried(folder / "data", folder)


def not_utf8(field: Field, folder: Path) -> str:
    """File names of another encoding."""
    return taken(folder, [os.fsdecode(b"caf\xe9_%d.png" % number) for number in range(4)])


def folders_not_utf8(field: Field, folder: Path) -> str:
    return turned_away(folder, [os.fsdecode(b"caf\xe9/0.png"), *some("dog", 2)])


def looped(field: Field, folder: Path) -> str:
    """Links to a folder above, to itself, to nothing."""
    data = lay(folder / "data", PETS)
    (data / "cat" / "up").symlink_to(data)
    (data / "cat" / "self.png").symlink_to("self.png")
    (data / "dog" / "gone.png").symlink_to("nowhere.png")
    return tried(data, folder)


def windows_zip(field: Field, folder: Path) -> str:
    with zipfile.ZipFile(folder / "data.zip", "w") as archive:
        for number, name in enumerate((r"cat\0.png", r"cat\1.png", r"dog\2.png", r"dog\3.png")):
            archive.writestr(name, picture_bytes(number))
    return tried(folder / "data.zip", folder)


def plain_stylegan(field: Field, folder: Path) -> str:
    with zipfile.ZipFile(folder / "data.zip", "w") as archive:
        for number in (0, 1, 1000, 1001):
            archive.writestr(f"{number // 1000:05d}/img{number:08d}.png", picture_bytes(number))
    return tried(folder / "data.zip", folder)


LISTS: Texts = {
    "train.txt": of_each("{cls}/{cls}_00{number}.png", range(3)),
    "test.txt": of_each("{cls}/{cls}_003.png", range(1)),
}
KEPT = "split test (2 images) is kept apart, neither trained nor validated on: shard.roles: {'test': val} takes it for validation"
FOOD = [*some("images/apple_pie", 4), *some("images/pho", 4)]
FOOD_LISTS: Texts = {
    "meta/train.txt": of_each("{cls}/{cls}_00{number}", range(3), ("apple_pie", "pho")),
    "meta/test.txt": of_each("{cls}/{cls}_003", range(1), ("apple_pie", "pho")),
    "meta/classes.txt": "apple_pie\npho\n",
}
VOC = [f"JPEGImages/2007_00000{number}.jpg" for number in range(6)]
VOC_LISTS: Texts = {
    f"ImageSets/Main/{split}.txt": lines(*(f"2007_00000{number}" for number in numbers))
    for split, numbers in {"train": (0, 1), "val": (2, 3), "trainval": (0, 1, 2, 3), "test": (4, 5)}.items()
}
CUB = [f"images/00{cls}.Bird/b_{cls}{number}.jpg" for cls in (1, 2) for number in range(4)]
CUB_LISTS: Texts = {
    "images.txt": lines(
        *(f"{number} {name.removeprefix('images/')}" for number, name in enumerate(CUB, 101))
    ),
    "train_test_split.txt": lines(*(f"{number} {number % 2}" for number in range(101, 109))),
}
DTD: Texts = {
    f"labels/{split}{number}.txt": of_each(f"{{cls}}/{{cls}}_00{(place + number) % 4}.png", range(1))
    for number in (1, 2)
    for place, split in enumerate(("train", "val", "test"))
}
KARPATHY = [
    {"filename": name, "split": "train" if name < "2" else "val", "sentences": [{"raw": f"a cat {name}"}]}
    for name in FOUR
]

WNIDS = ("n01440764", "n01443537")

ROWS: tuple[Row, ...] = (
    Row("class folders with lists of the splits", AREA, "train.txt and test.txt beside cat/, dog/",
        "class_folder: cat 1+2, dog 1+2; seen 6 = 2 train + 4 val + 0 skipped; 2 passed over: 2 of the test split, kept apart", made(PETS, LISTS)),
    Row("the same, the test split wanted for validation", AREA, "shard.roles: {test: val}",
        "class_folder: cat 3+1, dog 3+1; seen 8 = 6 train + 2 val", made(PETS, LISTS, roles={"test": "val"})),
    Row("lists that kind class_folder is not to look for", AREA, "kind class_folder, shard.tables: null",
        "test.txt names these images and is not read by kind class_folder: shard.tables: ['test.txt'] takes captions and splits from it",
        made(PETS, LISTS, kind="class_folder")),
    Row("a list of the test images alone", AREA, "test.txt", "images without a split are for training: the files name only test",
        made(PETS, {"test.txt": LISTS["test.txt"]})),
    Row("Food-101", AREA, "images/CLASS/, meta/train.txt and meta/test.txt: CLASS/STEM",
        "class_folder: apple_pie 2+1, pho 1+2; seen 6 = 3 train + 3 val + 0 skipped; 3 passed over: 2 of the test split, kept apart",
        made(FOOD, FOOD_LISTS)),
    Row("Pascal VOC", AREA, "JPEGImages/, ImageSets/Main/{train,val,trainval,test}.txt of stems",
        "metadata: no classes; seen 4 = 2 train + 2 val + 0 skipped; 2 passed over: 2 of the test split, kept apart", made(VOC, VOC_LISTS)),
    Row("CUB-200's numbered tables", AREA, "images.txt and train_test_split.txt, joined by numbers: not read, and said",
        "train_test_split.txt: named like splits, and not read (a table of names and splits would be, or a list of names for each split)",
        made(CUB, CUB_LISTS)),
    Row("DTD's ten splits", AREA, "labels/{train,val,test}{1,2}.txt: an image in several",
        "labels/test1.txt, labels/test2.txt, labels/train1.txt and 3 others: named like splits, and not read", made(
            [*some("images/cat", 4), *some("images/dog", 4)], DTD)),
    Row("one of these splits, named", AREA, "shard.tables: [labels/train1.txt, labels/val1.txt, labels/test1.txt]",
        "class_folder: cat 1+1, dog 1+1; seen 4 = 2 train + 2 val + 0 skipped; 7 passed over: 3 .txt: not a picture, 2 no split in a table, 2 of the test",
        made([*some("images/cat", 4), *some("images/dog", 4)], DTD, tables=[f"labels/{split}1.txt" for split in ("train", "val", "test")],
             kind="class_folder")),
    Row("lists that disagree, asked for", AREA, "0.png in train.txt and test.txt",
        "0.png is in train.txt (train) and in test.txt (test): name one list per split",
        refuses(FOUR, {"train.txt": lines(*FOUR), "test.txt": "0.png\n"}, kind="metadata", tables=["train.txt", "test.txt"])),
    Row("a flat folder with lists of its splits", AREA, "train.txt and val.txt", "metadata: no classes; seen 4 = 3 train + 1 val",
        made(FOUR, {"train.txt": lines(*FOUR[:3]), "val.txt": lines(FOUR[3])})),
    Row("Kaggle's train.csv and test.csv over one folder", AREA, "images/, train.csv with labels, test.csv without, sample_submission.csv",
        "metadata: k0 1+1, k1 1+1; seen 4 = 2 train + 2 val + 0 skipped; 3 passed over: 2 of the test split, kept apart, 1 .csv",
        made([*some("images", 6, "jpg")], {
            "train.csv": labels(*(f"images_00{number}" for number in range(4)), column="image_id"),
            "test.csv": "image_id\nimages_004\nimages_005\n",
            "sample_submission.csv": "image_id,label\nimages_004,k0\nimages_005,k0\n"})),
    Row("fastai's is_valid", AREA, "labels.csv: name, label, is_valid with True and False", "metadata: k0 2+0, k1 1+1; seen 4 = 3 train + 1 val",
        made(FOUR, {"labels.csv": "name,label,is_valid\n" + "".join(f"{n},k{i % 2},{i == 3}\n" for i, n in enumerate(FOUR))})),
    Row("a split column that says another split than the folder", AREA, "train/ and val/; metadata.csv moves one image",
        "1 images have another split in a table than their folder's, such as train/train_000.png",
        made([*some("train", 3), *some("val", 1)], {"metadata.csv": "file_name,split\ntrain/train_000.png,val\ntrain/train_001.png,train\n"
                                                 "train/train_002.png,train\nval/val_000.png,val\n"})),
    Row("cars_train and cars_test", AREA, "folders that share a word and differ in the split's",
        "folder: no classes; seen 4 = 2 train + 2 val + 0 skipped; 2 passed over: 2 of the test split, kept apart",
        made([*some("cars_train", 4), *some("cars_test", 2)])),
    Row("seg_train, seg_test and seg_pred", AREA, "the same, and a third folder that is not a split",
        "seg_test/, seg_train/ are named like a split, and beside them is seg_pred/; say what each is",
        refuses([*some("seg_train/sea", 2), *some("seg_test/sea", 2), *some("seg_pred", 2)])),
    Row("a class and a split in a folder's name", AREA, "horse_train, horse_test, zebra_train, zebra_test",
        "the folders horse_test, horse_train, zebra_test, zebra_train begin or end like splits, but would be classes; say what each is",
        refuses([*some("horse_train", 2), *some("horse_test", 1), *some("zebra_train", 2), *some("zebra_test", 1)])),
    Row("classes that are trains", AREA, "freight_train, steam_train", "class_folder: freight_train 1+1, steam_train 1+1; seen 4",
        made([*some("freight_train", 2), *some("steam_train", 2)])),
    Row("ImageNet as Kaggle has it", AREA, "ILSVRC/Data/CLS-LOC/{train,val,test}, ImageSets of names and numbers, LOC_val_solution.csv",
        "class_folder: n01440764 2+1, n01443537 2+1; seen 6 = 4 train + 2 val + 0 skipped; ", made(
            [*(f"ILSVRC/Data/CLS-LOC/train/{w}/{w}_{n}.JPEG" for w in WNIDS for n in range(2)),
             *(f"ILSVRC/Data/CLS-LOC/{split}/ILSVRC2012_{split}_0000000{n}.JPEG" for split in ("val", "test") for n in (1, 2))], {
                "LOC_val_solution.csv": "ImageId,PredictionString\n" + "".join(f"ILSVRC2012_val_0000000{n},{WNIDS[n - 1]} 1 2 3 4\n" for n in (1, 2)),
                "LOC_synset_mapping.txt": "".join(f"{w} words of it\n" for w in WNIDS),
                "LOC_sample_submission.csv": "ImageId,PredictionString\nILSVRC2012_test_00000001,1 0 0 9 9\nILSVRC2012_test_00000002,1 0 0 9 9\n",
                "ILSVRC/ImageSets/CLS-LOC/train_cls.txt": "".join(f"{w}/{w}_{n} {n + 1}\n" for w in WNIDS for n in range(2)),
                "ILSVRC/ImageSets/CLS-LOC/val.txt": "ILSVRC2012_val_00000001 1\nILSVRC2012_val_00000002 2\n",
                "ILSVRC/ImageSets/CLS-LOC/test.txt": "ILSVRC2012_test_00000001 1\nILSVRC2012_test_00000002 2\n"})),
    Row("classes within classes", AREA, "animals/cat, animals/dog, vehicles/car",
        "class_folder: animals 2+2, vehicles 1+1; seen 6 = 3 train + 3 val + 0 skipped; the images in folders of animals/ (cat, dog) are of the class animals",
        made([*some("animals/cat", 2), *some("animals/dog", 2), *some("vehicles/car", 2)])),
    Row("class folders that differ by case alone", AREA, "Cat/, cat/, dog/", "classes whose names differ only by case: Cat, cat",
        made([*some("Cat", 2), *some("cat", 2), *some("dog", 2)])),
    Row("a class folder with nothing in it", AREA, "bird/adult/ beside cat/, dog/", "empty folders: bird/adult/", emptied),
    Row("links in circles, to themselves, to nothing", AREA, "cat/up → the source, self.png → self.png, gone.png → nowhere",
        "class_folder: cat 2+2, dog 1+3; seen 10 = 3 train + 5 val + 2 skipped", looped),
    Row("file names that are not UTF-8", AREA, "caf\\xe9_0.png", "folder: no classes; seen 4 = 3 train + 1 val + 0 skipped", not_utf8),
    Row("a class folder's name that is not UTF-8", AREA, "caf\\xe9/", "the class folder 'caf\\xe9' is not UTF-8 text: rename it", folders_not_utf8),
    Row("extensions in capitals", AREA, "cat/A.PNG, cat/B.JPG, dog/C.Jpeg, dog/D.PnG", "class_folder: cat 1+1, dog 1+1; seen 4",
        made(["cat/A.PNG", "cat/B.JPG", "dog/C.Jpeg", "dog/D.PnG"])),
    Row("pandas' row numbers beside the names", AREA, "a column without a name: 0 … 3; image_id: 3 … 0; the pictures are 0.png … 3.png",
        "labels.csv: image from image_id, label from label", made(FOUR, {"labels.csv": ",image_id,label\n0,3,a\n1,2,a\n2,1,b\n3,0,b\n"})),
    Row("captions with U+2028 or a form feed in them", AREA, "captions.csv: a cat, U+2028, and dog", "4 captioned (a cat and dog); seen 4",
        made(FOUR, {"captions.csv": "file,caption\n" + "".join(f"{name},a cat\u2028and\x0cdog\n" for name in FOUR)})),
    Row("a table written on Windows", AREA, r"C:\Users\me\0.png;…, line ends of Windows", "metadata: k0 1+1, k1 1+1; seen 4",
        made(FOUR, {"labels.csv": labels(*(f"C:\\Users\\me\\{name}" for name in FOUR)).replace("\n", "\r\n")})),
    Row("captions with line ends in quotes", AREA, 'captions.csv: "a cat, black\\nand white"', "4 captioned (a cat, black and white); seen 4",
        made(FOUR, {"captions.csv": "file_name,caption\n" + "".join(f'{name},"a cat, black\nand white"\n' for name in FOUR)})),
    Row("JSON lines with empty ones between", AREA, "metadata.jsonl with a byte-order mark", "4 captioned (a cat); seen 4",
        made(FOUR, {"metadata.jsonl": b"\xef\xbb\xbf" + "\n\n".join(json.dumps({"file_name": n, "text": "a cat"}) for n in FOUR).encode()})),
    Row("names whose leading zeros a spreadsheet took", AREA, "000000.png is 0 in labels.csv", "metadata: k0 1+1, k1 1+1; seen 4",
        made([f"{number:06d}.png" for number in range(4)], {"labels.csv": labels("0", "1", "2", "3", column="id")})),
    Row("names in a Mac's Unicode form", AREA, "decomposed on the disk, composed in the table", "metadata: k0 1+1, k1 1+1; seen 4",
        made([unicodedata.normalize("NFD", f"café{number}.png") for number in range(4)],
             {"labels.csv": labels(*(unicodedata.normalize("NFC", f"café{number}.png") for number in range(4)))})),
    Row("names in another case", AREA, "IMG_0.JPG is img_0.jpg in the table", "metadata: k0 1+1, k1 1+1; seen 4",
        made([f"IMG_{number}.JPG" for number in range(4)], {"labels.csv": labels(*(f"img_{number}.jpg" for number in range(4)))})),
    Row("base names that several folders share", AREA, "a/0.png, b/0.png; labels.csv says 0.png",
        "labels.csv names '0.png', which several images are called: give their paths below the source",
        made([f"{folder}/{number}.png" for folder in "ab" for number in range(3)], {"labels.csv": labels("0.png", "1.png", "2.png")})),
    Row("texts that are not UTF-8", AREA, "captions and labels in Windows-1252", "metadata: café 1+2; 3 captioned (déjà vu); seen 3",
        made(FOUR[:3], {f"{n}.txt": "déjà vu".encode("cp1252") for n in range(3)}
             | {"labels.csv": ("file,label\n" + "".join(f"{name},café\n" for name in FOUR[:3])).encode("cp1252")})),
    Row("captions in .caption files", AREA, "10_dog/0.png and 10_dog/0.caption, as trainers of LoRAs have them", "4 captioned (a dog); seen 4",
        made([f"10_dog/{name}" for name in FOUR], {f"10_dog/{number}.caption": "a dog" for number in range(4)})),
    Row("a JSON beside each image", AREA, "0.png and 0.json", "4 .json files named like their image are not read: a metadata.jsonl or labels.csv",
        made(FOUR, {f"{number}.json": json.dumps({"caption": "a dog"}) for number in range(4)})),
    Row("img2dataset's files", AREA, "00000/000000000.jpg, .txt and .json, 00000_stats.json", "4 captioned (a cat); seen 4",
        made([f"00000/00000000{n}.jpg" for n in range(4)], {f"00000/00000000{n}.txt": "a cat" for n in range(4)}
             | {f"00000/00000000{n}.json": "{}" for n in range(4)} | {"00000_stats.json": "{}"})),
    Row("Karpathy's splits of COCO", AREA, 'dataset_coco.json: {"images": [{filename, split, sentences: [{raw}]}]}',
        "4 captioned (a cat 0.png | a cat 1.png | a cat 2.png | a cat 3.png); seen 4 = 2 train + 2 val",
        made(FOUR, {"dataset_coco.json": json.dumps({"images": KARPATHY})})),
    Row("labels as a column for each class", AREA, "gt.csv: image, MEL, NV with 0 and 1",
        "gt.csv names images, but none of its other columns is read: MEL, NV (shard.columns: {label: MEL} takes one)",
        made(FOUR, {"gt.csv": "image,MEL,NV\n" + "".join(f"{n},{n % 2}.0,{1 - n % 2}.0\n" for n in range(4))})),
    Row("empty labels", AREA, "a label is missing, another is NaN", "metadata: a 1+1; seen 2 = 1 train + 1 val + 0 skipped; 2 passed over: 2 no label in a table",
        made(FOUR, {"labels.csv": "file,label\n0.png,a\n1.png,\n2.png,a\n3.png,NaN\n"})),
    Row("classes of one image, and nothing else", AREA, "a/0.png, b/0.png", "each class has one image, which is for training; two of a class are needed",
        lambda field, folder: one_each(folder)),
    Row("a Parquet with the images in it, and nothing else", AREA, "data/train-00000-of-00001.parquet",
        "holds no images (1 passed over: 1 .parquet: not a picture); expected pictures for kind folder (a Parquet or Arrow file that holds the images",
        refuses([], {"data/train-00000-of-00001.parquet": b"PAR1"})),
    Row("a table that cannot be read", AREA, "labels.json is torn", "tables beside the images are not read: labels.json is not JSON",
        made(FOUR, {"labels.json": '{"0.png": '})),
    Row("the archive left beside what came out of it", AREA, "images.tar beside cat/, dog/", "images.tar beside the pictures not read: shard.kind: webdataset reads only tars",
        made(PETS, {"images.tar": b"x"})),
    Row("an archive that nothing reads", AREA, "shard.source: data.7z", "data.7z is an archive of a kind that is not read: unpack it, and name the folder",
        lambda field, folder: archived(folder)),
    Row("a zip that Windows packed", AREA, r"cat\0.png, dog\2.png", "class_folder: cat 1+1, dog 1+1; seen 4", windows_zip),
    Row("StyleGAN's zip without dataset.json", AREA, "numbered folders alone", "folder: no classes; seen 4 = ", plain_stylegan),
    Row("Oxford-IIIT Pets, its trimaps left out", AREA, "shard.roles: {trimaps: skip}; annotations/{list,trainval,test}.txt",
        "metadata: 1 1+1, 2 1+1; seen 4 = 2 train + 2 val + 0 skipped; 8 passed over: 6 left out by shard.roles, 2 of the test split, kept apart",
        made([f"{part}/{breed}_{n}.{form}" for part, form in (("images", "jpg"), ("annotations/trimaps", "png")) for breed in "AB" for n in range(3)], {
            "annotations/list.txt": "#Image CLASS-ID SPECIES\n" + "".join(f"{b}_{n} {i} 1\n" for i, b in enumerate("AB", 1) for n in range(3)),
            "annotations/trainval.txt": "".join(f"{b}_{n} {i} 1\n" for i, b in enumerate("AB", 1) for n in range(2)),
            "annotations/test.txt": "A_2 1 1\nB_2 2 1\n"}, roles={"trimaps": "skip"})),
)  # fmt: skip


def one_each(folder: Path) -> str:
    from tests.field.counting import refused

    return refused(lay(folder / "data", ["a/0.png", "b/0.png"]), folder / "run", kind="auto")


def archived(folder: Path) -> str:
    from tests.field.laid_out import turned_away_at

    return turned_away_at(lay(folder, [], {"data.7z": "7z"}) / "data.7z", folder)
