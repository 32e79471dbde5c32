"""Layouts in small, each sharded, made tokens, trained on and sampled from: labels, splits and captions arrive where they belong.

Each row gives the truth, name by name; what the tokens say of each image must be that, and nothing else may be in them.
"""

import json
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from tests.field.label_rows import mat
from tests.field.laid_out import Texts, lay, some
from tests.field.layout_rows import IMAGENET, KAGGLE, TRUTH, WNIDS, Outcome
from tests.field.outsider_rows import FOOD, FOOD_LISTS, LISTS, VOC, VOC_LISTS
from tests.field.place import picture_bytes
from tests.field.table import Field, Row
from tests.field.tar_rows import samples, tar
from tests.field.trained import trained

AREA = "Data: labels, splits and captions through a tiny training"
FOUR = [f"{number}.png" for number in range(4)]
BOTH = ("cat", "dog")
PETS = [f"{cls}/{cls}_{number:03d}.png" for cls in BOTH for number in range(4)]


def made(
    texts: Texts, truth: Mapping[str, str], val: Collection[str] | None = None,
    apart: Collection[str] = (), **changes: Any,
) -> Outcome:  # fmt: skip
    """A folder of the images that `truth` names and of those that are kept apart, with these files beside them."""

    def outcome(field: Field, folder: Path) -> str:
        return trained(lay(folder / "data", [*truth, *apart], texts), folder, truth, val, **changes)

    return outcome


def by_folder(*names: str) -> dict[str, str]:
    """Each image's class, where it is its folder."""
    return {name: name.split("/")[-2] for name in names}


def within(folder: str, *names: str) -> list[str]:
    """Those of the names that are in a folder."""
    return [name for name in names if name.startswith(f"{folder}/")]


def json_lines(*rows: object) -> str:
    """A JSON line each."""
    return "".join(f"{json.dumps(row)}\n" for row in rows)


def imagenet(texts: Texts, val: tuple[int, int, int]) -> Outcome:
    """Class folders and a flat validation folder, whose labels are the numbers of WordNet ids."""
    truth = {name: name.split("/")[1] for name in IMAGENET if name.startswith("train/")}
    flat = {name: WNIDS[place] for name, place in zip(IMAGENET[4:], val, strict=True)}
    return made(texts, truth | flat, flat)


def coco(field: Field, folder: Path) -> str:
    """Captions of train2017 and val2017; test2017 has none."""
    names = [*some("train2017", 3, "jpg"), *some("val2017", 1, "jpg")]
    truth = {name: f"a pet of number {place}" for place, name in enumerate(names)}
    texts = {}
    for split in ("train2017", "val2017"):
        images = [
            {"id": place, "file_name": name.partition("/")[2]}
            for place, name in enumerate(names)
            if split in name
        ]
        rows = [{"image_id": image["id"], "caption": f"a pet of number {image['id']}"} for image in images]
        texts[f"annotations/captions_{split}.json"] = json.dumps({"images": images, "annotations": rows})
    return trained(
        lay(folder / "data", names, texts), folder, truth, within("val2017", *names), condition="text"
    )


def stylegan(field: Field, folder: Path) -> str:
    """A zip with dataset.json."""
    names = [f"0000{number // 1000}/img0000{number:04d}.png" for number in (0, 1, 2, 1000, 1001, 1002)]
    truth = {name: str(7 * (place % 2)) for place, name in enumerate(names)}
    with zipfile.ZipFile(folder / "data.zip", "w") as archive:
        for place, name in enumerate(names):
            archive.writestr(name, picture_bytes(place))
        labels = [[name, int(label)] for name, label in truth.items()]
        archive.writestr("dataset.json", json.dumps({"labels": labels}))
    return trained(folder / "data.zip", folder, truth)


def img2dataset(field: Field, folder: Path) -> str:
    """Two tars with a caption and a json of each picture."""
    for number in range(2):
        more = {
            "txt": f"a cat of tar {number}",
            "json": json.dumps({"url": "http://x"}).replace("{", "{{").replace("}", "}}"),
        }
        tar(folder / "t" / f"{number:05d}.tar", samples(2, first=10 * number, **more))
    truth = {f"{n:05d}.tar/{10 * n + k:05d}.jpg": f"a cat of tar {n}" for n in range(2) for k in range(2)}
    return trained(folder / "t", folder, truth, condition="text")


def webdataset(field: Field, folder: Path) -> str:
    """Tars of three splits by name, numbers as labels, their names beside the tars."""
    for split, first, count in (("train", 0, 4), ("val", 10, 2), ("test", 20, 2)):
        tar(folder / "t" / f"{split}-000.tar", samples(count, first=first, cls="{n}"))
    lay(folder / "t", [], {"classnames.txt": "tench\ngoldfish\n"})
    names = ("tench", "goldfish")
    val = {f"val-000.tar/{number:05d}.jpg": names[number % 2] for number in (10, 11)}
    truth = {f"train-000.tar/{number:05d}.jpg": names[number % 2] for number in range(4)}
    return trained(folder / "t", folder, truth | val, val)


SPLITS = [*some("train/cat", 3), *some("train/dog", 3), *some("valid/cat", 1), *some("valid/dog", 1)]
KAGGLE_TEST = [*some("test/cat", 2), *some("test/dog", 2)]
DIGITS = [f"training/{digit}/{number}.png" for digit in (1, 7, 10) for number in range(2)]
JPGS = [f"jpg/image_{number:05d}.jpg" for number in range(1, 9)]
CELEBA = [f"img_align_celeba/{number:06d}.jpg" for number in range(1, 8)]
SMILES = "image_id,5_o_Clock_Shadow,Smiling\n" + "".join(
    f"{number:06d}.jpg,-1,{1 if number % 2 else -1}\n" for number in range(1, 8)
)
PARTITION = (
    "image_id,partition\n" + "".join(f"{n:06d}.jpg,{n > 4:d}\n" for n in range(1, 7)) + "000007.jpg,2\n"
)
FACES = [*some("train", 4), *some("test", 2)]
TABLES = {
    f"{split}/metadata.csv": "file_name,label\n"
    + "".join(f"{split}_{n:03d}.png,{BOTH[n % 2]}\n" for n in range(count))
    for split, count in (("train", 4), ("test", 2))
}
NUMBERED = [f"{cls}.{number}.jpg" for cls in BOTH for number in range(4)]
IS_VALID = "name,label,is_valid\n" + "".join(f"{name},k{n % 2},{n > 1}\n" for n, name in enumerate(FOUR))
SPLIT_WITHIN = [*some("cat/train", 2), *some("dog/train", 2), *some("cat/val", 1), *some("dog/val", 1)]
ODD = ['Pekinese, "long"', "Tibetan terrier", "Ŝafhundo 犬"]

ROWS: tuple[Row, ...] = (
    Row("ImageNet with its devkit, trained on", AREA, "train/WNID/, a flat val/, ILSVRC2012_devkit_t12",
        "tokens: train n01440764 2, n01443537 2, val n01440764 1, n01443537 2; samples: n01440764 2, n01443537 2", imagenet(TRUTH, (1, 0, 1))),
    Row("ImageNet with Kaggle's labels, trained on", AREA, "LOC_val_solution.csv", "val n01440764 1, n01443537 2; samples: n01440764 2, n01443537 2",
        imagenet(KAGGLE, (1, 0, 1))),
    Row("COCO, trained on", AREA, "annotations/captions_{train,val}2017.json",
        "tokens: train a pet of number 0 1, a pet of number 1 1, a pet of number 2 1, val a pet of number 3 1; samples: a cat 2", coco),
    Row("CelebA by an attribute, trained on", AREA, "list_attr_celeba.csv, list_eval_partition.csv; shard.columns: {label: Smiling}",
        "1 of the test split, kept apart", made(
            {"list_attr_celeba.csv": SMILES, "list_eval_partition.csv": PARTITION},
            {name: "1" if n % 2 else "-1" for n, name in enumerate(CELEBA[:6], 1)}, CELEBA[4:6], CELEBA[6:], columns={"label": "Smiling"})),
    Row("MNIST as PNG, trained on", AREA, "training/{1,7,10}/, testing/ kept apart; 10 after 7 or before, the name is the image's",
        "samples: 1 2, 10 2, 7 2", made({}, by_folder(*DIGITS), apart=[f"testing/{digit}/9.png" for digit in (1, 7, 10)])),
    Row("Oxford Flowers, trained on", AREA, "jpg/, imagelabels.mat, setid.mat: tstid kept apart", "tokens: train 1 1, 2 1, val 1 1, 2 1; samples: 1 2, 2 2", made(
        {"imagelabels.mat": mat(labels=[1, 2, 1, 2, 1, 2, 1, 2]), "setid.mat": mat(trnid=[1, 2], valid=[3, 4], tstid=[5, 6, 7, 8])},
        {name: str(1 + n % 2) for n, name in enumerate(JPGS[:4])}, JPGS[2:4], JPGS[4:])),
    Row("Kaggle's train, valid and test, trained on", AREA, "test/ kept apart", "tokens: train cat 3, dog 3, val cat 1, dog 1; samples: cat 2, dog 2",
        made({}, by_folder(*SPLITS), within("valid", *SPLITS), KAGGLE_TEST)),
    Row("the same, its test split validated on", AREA, "valid/ left out, shard.roles: {test: val, valid: skip}", "tokens: train cat 3, dog 3, val cat 2, dog 2; samples: cat 2, dog 2",
        made({}, by_folder(*SPLITS[:6], *KAGGLE_TEST), KAGGLE_TEST, SPLITS[6:], roles={"test": "val", "valid": "skip"})),
    Row("Hugging Face's imagefolder with labels, trained on", AREA, "train/metadata.csv, test/metadata.csv", "samples: cat 2, dog 2",
        made(TABLES, {name: BOTH[n % 2] for n, name in enumerate(FACES[:4])}, apart=FACES[4:])),
    Row("Hugging Face's imagefolder with captions, trained on", AREA, "metadata.jsonl: file_name, text", "samples: a cat 2", made(
        {"metadata.jsonl": json_lines(*({"file_name": name, "text": f"cat {n}"} for n, name in enumerate(FOUR)))},
        {name: f"cat {n}" for n, name in enumerate(FOUR)}, condition="text")),
    Row("img2dataset's tars, trained on", AREA, "00000.tar, 00001.tar: jpg, txt, json", "4 captioned (a cat of tar 0 | a cat of tar 1)", img2dataset),
    Row("WebDataset's tars by split, trained on", AREA, "train-000.tar, val-000.tar, test-000.tar: jpg, cls; classnames.txt",
        "tokens: train goldfish 2, tench 2, val goldfish 1, tench 1; samples: goldfish 2, tench 2", webdataset),
    Row("FFHQ's numbered folders, trained on", AREA, "00000/, 01000/; no condition", "samples: images 2", made(
        {}, {f"{n // 1000 * 1000:05d}/{n:05d}.png": "" for n in (0, 1, 2, 1000, 1001, 1999)}, condition="none")),
    Row("StyleGAN's zip, trained on", AREA, "dataset.json: 0 and 7", "samples: 0 2, 7 2", stylegan),
    Row("labels in file names, trained on", AREA, "train/cat.0.jpg …, test1/0.jpg kept apart", "tokens: train cat 2, dog 2, val cat 2, dog 2; samples: cat 2, dog 2",
        made({}, {f"train/{name}": name[:3] for name in NUMBERED}, apart=["test1/0.jpg", "test1/1.jpg"])),
    Row("labels in file names with lists of the splits, trained on", AREA, "cat.0.jpg …; train.txt, val.txt", "tokens: train cat 3, dog 3, val cat 1, dog 1; samples: cat 2, dog 2",
        made({"train.txt": "\n".join(n for n in NUMBERED if "3" not in n), "val.txt": "cat.3.jpg\ndog.3.jpg\n"},
             {name: name[:3] for name in NUMBERED}, ("cat.3.jpg", "dog.3.jpg"))),
    Row("class folders with lists, trained on", AREA, "train.txt; test.txt kept apart", "samples: cat 2, dog 2", made(LISTS, by_folder(*(n for n in PETS if "003" not in n)), apart=[n for n in PETS if "003" in n])),
    Row("Food-101, trained on", AREA, "meta/test.txt kept apart", "samples: apple_pie 2, pho 2", made(
        FOOD_LISTS, by_folder(*(n for n in FOOD if "003" not in n)), apart=[n for n in FOOD if "003" in n])),
    Row("Pascal VOC, trained on", AREA, "ImageSets/Main; no condition", "tokens: train images 2, val images 2; samples: images 2",
        made(VOC_LISTS, dict.fromkeys(VOC[:4], ""), VOC[2:4], VOC[4:], condition="none")),
    Row("fastai's is_valid, trained on", AREA, "labels.csv: name, label, is_valid", "tokens: train k0 1, k1 1, val k0 1, k1 1; samples: k0 2, k1 2",
        made({"labels.csv": IS_VALID}, {name: f"k{n % 2}" for n, name in enumerate(FOUR)}, FOUR[2:])),
    Row("splits inside the classes, trained on", AREA, "cat/{train,val}, dog/{train,val}", "tokens: train cat 2, dog 2, val cat 1, dog 1; samples: cat 2, dog 2",
        made({}, {name: name.partition("/")[0] for name in SPLIT_WITHIN}, [name for name in SPLIT_WITHIN if "/val/" in name])),
    Row("names of classes with commas, quotes and other scripts, trained on", AREA, 'Pekinese, "long"/, Tibetan terrier/, Ŝafhundo 犬/',
        'samples: Pekinese, "long" 2, Tibetan terrier 2, Ŝafhundo 犬 2', made({}, {f"{cls}/{n}.png": cls for cls in ODD for n in range(2)})),
)  # fmt: skip
