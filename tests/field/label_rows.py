"""Labels, captions and splits in files beside the images: read where they are, told where they are not, never mixed up."""

import io
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from unittest import mock

import numpy as np

from tests.field.laid_out import Texts, some, taken, turned_away
from tests.field.table import Field, Row

AREA = "Data: labels and captions"
Outcome = Callable[[Field, Path], str]
FOUR = [f"{number}.png" for number in range(4)]


def beside(images: list[str], texts: Texts, **changes: object) -> Outcome:
    """What `kind: auto` (or another) makes of images with these files beside them."""
    return lambda field, folder: taken(folder, images, texts, **changes)


def refuses(images: list[str], texts: Texts, **changes: object) -> Outcome:
    """The line in which `inspect` and `shard` refuse them."""
    return lambda field, folder: turned_away(folder, images, texts, **changes)


def json_lines(*rows: object) -> str:
    """JSON lines."""
    return "".join(f"{json.dumps(row)}\n" for row in rows)


def parquet(columns: Mapping[str, list[object]]) -> Callable[[], bytes]:
    """A Parquet file, which is made when it is written: the import costs each of pytest's workers half a CPU second."""

    def written() -> bytes:
        import pyarrow as arrow
        import pyarrow.parquet as files

        made = io.BytesIO()
        files.write_table(arrow.table(dict(columns)), made)
        return made.getvalue()

    return written


def mat(**variables: object) -> Callable[[], bytes]:
    """A MATLAB file, made when it is written."""

    def written() -> bytes:
        from scipy.io import savemat

        made = io.BytesIO()
        savemat(made, {name: np.array([value]) for name, value in variables.items()})
        return made.getvalue()

    return written


def without_pyarrow(field: Field, folder: Path) -> str:
    """A Parquet of captions where pyarrow is not installed: named, and looked for."""
    texts = {"captions.parquet": parquet({"path": list(FOUR), "caption": ["a cat"] * 4})()}
    with mock.patch.dict(sys.modules, {"pyarrow": None, "pyarrow.parquet": None}):
        return turned_away(folder, FOUR, texts, kind="metadata", tables=["captions.parquet"])


CELEBA = [f"img_align_celeba/{number:06d}.jpg" for number in range(1, 7)]
ATTRIBUTES = "image_id,5_o_Clock_Shadow,Smiling\n" + "".join(
    f"{number:06d}.jpg,-1,{1 if number % 2 else -1}\n" for number in range(1, 7)
)
PARTITION = "image_id,partition\n" + "".join(
    f"{n:06d}.jpg,{part}\n" for n, part in enumerate((0, 0, 0, 1, 1, 2), 1)
)
FLOWERS = [f"jpg/image_{number:05d}.jpg" for number in range(1, 9)]
FLICKR = [f"Images/10002{number}_ab.jpg" for number in range(2)]
STYLEGAN = [f"0000{number // 1000}/img0000{number:04d}.png" for number in (0, 1, 1000, 1001)]
PETS = [*some("cat", 2), *some("dog", 2)]
PET_TEXTS = {f"{name.removesuffix('.png')}.txt": "pet" for name in PETS}
HALF = "seen 4 = 2 train + 2 val + 0 skipped"

ROWS: tuple[Row, ...] = (
    Row("Hugging Face's imagefolder with captions", AREA, "metadata.jsonl: file_name, text",
        "metadata: no classes; 4 captioned (cat 0 | cat 1 | cat 2 | cat 3); seen 4",
        beside(FOUR, {"metadata.jsonl": json_lines(*({"file_name": name, "text": f"cat {n}"} for n, name in enumerate(FOUR)))})),
    Row("the same with a table in each split", AREA, "train/metadata.csv, test/metadata.csv: file_name, label",
        "metadata: cat 1+1, dog 1+1; seen 4 = 2 train + 2 val + 0 skipped; 2 passed over: 2 of the test split, kept apart",
        beside([*some("train", 4), *some("test", 2)], {
            "train/metadata.csv": "file_name,label\n"
            + "".join(f"train_00{n}.png,{'cat' if n % 2 else 'dog'}\n" for n in range(4)),
            "test/metadata.csv": "file_name,label\ntest_000.png,cat\ntest_001.png,dog\n"})),
    Row("several captions per image, as lists", AREA, "metadata.jsonl: image, captions [a, b]",
        "4 captioned (a cat | a pet); seen 4",
        beside(FOUR, {"metadata.jsonl": json_lines(*({"image": n, "captions": ["a cat", "a pet"]} for n in FOUR))})),
    Row("a text beside each image", AREA, "0.png and 0.txt …",
        "metadata: no classes; 4 captioned (a cat | black and white); seen 4",
        beside(FOUR, {f"{n}.txt": "a cat\nblack and white\n" for n in range(4)})),
    Row("boxes beside each image", AREA, "YOLO's 0.txt: 0 0.5 0.5 0.2 0.3",
        "folder: no classes; seen 4 = 1 train + 3 val + 0 skipped; 4 passed over: 4 .txt: not a picture",
        beside(FOUR, {f"{n}.txt": "0 0.5 0.5 0.2 0.3\n" for n in range(4)})),
    Row("boxes asked for as captions", AREA, "the same, shard.tables: ['*.txt']",
        "hold numbers (0 0.5 0.5 0.2 0.3): boxes or labels, not captions: take '*.txt' out of shard.tables",
        refuses(FOUR, {f"{n}.txt": "0 0.5 0.5 0.2 0.3\n" for n in range(4)}, kind="metadata", tables=["*.txt"])),
    Row("labels.csv with a header", AREA, "filename;species, semicolons, a byte-order mark",
        "metadata: lily 1+1, rose 1+1; seen 4",
        beside(FOUR, {"labels.csv": b"\xef\xbb\xbffilename;species\r\n0.png;rose\r\n1.png;rose\r\n2.png;lily\r\n3.png;lily"})),
    Row("labels without a header", AREA, "labels.csv: 0.png,10 …; numbers are sorted as numbers",
        "metadata: 2 1+1, 10 1+1; seen 4", beside(FOUR, {"labels.csv": "0.png,10\n1.png,2\n2.png,2\n3.png,10\n"})),
    Row("labels by a spreadsheet", AREA, "UTF-16 with tabs, and labels that became 1.0",
        "metadata: 1 1+1, 2 1+1; seen 4",
        beside(FOUR, {"labels.tsv": "name\tlabel\n0.png\t1.0\n1.png\t1.0\n2.png\t2.0\n3.png\t2.0\n".encode("utf-16")})),
    Row("labels by name without extension", AREA, "id,breed as in Kaggle's dog breeds; train/ and test/ of images",
        "metadata: pug 1+1, terrier 1+1; seen 4 = 2 train + 2 val + 0 skipped; 2 passed over: 2 of the test split",
        beside([*some("train", 4), *some("test", 2)],
               {"labels.csv": "id,breed\n" + "".join(f"train_00{n},{'pug' if n < 2 else 'terrier'}\n" for n in range(4))})),
    Row("CelebA's flat folder and its CSV files", AREA, "img_align_celeba/, list_attr_celeba.csv, list_eval_partition.csv",
        "seen 5 = 3 train + 2 val + 0 skipped; 2 passed over: 1 .csv: not a picture, 1 of the test split, kept apart",
        beside(CELEBA, {"list_attr_celeba.csv": ATTRIBUTES, "list_eval_partition.csv": PARTITION})),
    Row("the same with an attribute as the class", AREA, "shard.columns: {label: Smiling}",
        "metadata: -1 1+1, 1 2+1; seen 5 = 3 train + 2 val",
        beside(CELEBA, {"list_attr_celeba.csv": ATTRIBUTES, "list_eval_partition.csv": PARTITION}, columns={"label": "Smiling"})),
    Row("CelebA's text lists", AREA, "identity_CelebA.txt and list_eval_partition.txt: name and number, white space between",
        "metadata: 7 2+1, 9 1+1; seen 5 = 3 train + 2 val",
        beside(CELEBA, {"identity_CelebA.txt": "".join(f"{n:06d}.jpg {7 if n % 2 else 9}\n" for n in range(1, 7)),
                        "list_eval_partition.txt": PARTITION.partition("\n")[2].replace(",", " ")})),
    Row("a column that is not there", AREA, "shard.columns: {label: Smile}", "shard.columns says label: Smile, but no table",
        refuses(CELEBA, {"list_attr_celeba.csv": ATTRIBUTES}, kind="metadata", columns={"label": "Smile"})),
    Row("StyleGAN's dataset.json in a folder", AREA, "00000/img00000000.png, labels by path", "metadata: 0 1+1, 6 1+1; seen 4",
        beside(STYLEGAN, {"dataset.json": json.dumps({"labels": [[name, 6 * (n % 2)] for n, name in enumerate(STYLEGAN)]})})),
    Row("the same without labels", AREA, '{"labels": null}',
        "folder: no classes; seen 4 = 2 train + 2 val + 0 skipped; 1 passed over",
        beside(STYLEGAN, {"dataset.json": '{"labels": null}'})),
    Row("labels that are vectors", AREA, "dataset.json with camera angles",
        "the label of 00000/img00000000.png is [0.1, 0.2]; expected one class per image",
        refuses(STYLEGAN, {"dataset.json": json.dumps({"labels": [[name, [0.1, 0.2]] for name in STYLEGAN]})}, kind="metadata")),
    Row("a Parquet of paths and captions", AREA, "captions.parquet",
        "metadata: no classes; 4 captioned (cat 0 | cat 1 | cat 2 | cat 3)",
        beside(FOUR, {"captions.parquet": parquet({"path": list(FOUR), "caption": [f"cat {n}" for n in range(4)]})})),
    Row("a Parquet without pyarrow", AREA, "the same, pyarrow not installed",
        "captions.parquet: a Parquet file needs pyarrow: `pip install pyarrow`", without_pyarrow),
    Row("a Parquet with the images in it", AREA, "Hugging Face's {bytes, path}",
        "holds the images themselves (column image): write them to files",
        refuses(FOUR, {"data.parquet": parquet({"image": [{"bytes": b"x", "path": name} for name in FOUR]})},
                kind="metadata", tables=["data.parquet"])),
    Row("Oxford Flowers with its MATLAB files", AREA, "jpg/, imagelabels.mat, setid.mat",
        "metadata: 1 1+1, 2 1+1; seen 4 = 2 train + 2 val + 0 skipped; 4 passed over: 4 of the test split, kept apart",
        beside(FLOWERS, {"imagelabels.mat": mat(labels=[1, 2, 1, 2, 1, 2, 1, 2]),
                         "setid.mat": mat(trnid=[1, 2], valid=[3, 4], tstid=[5, 6, 7, 8])})),
    Row("the same with too few labels", AREA, "7 labels for 8 images",
        "imagelabels.mat has 7 labels, in the order of the images' names, and there are 8",
        refuses(FLOWERS, {"imagelabels.mat": mat(labels=[1] * 7)}, kind="metadata")),
    Row("Flickr8k's captions.txt", AREA, "image,caption with commas that nobody quoted, five an image",
        "2 captioned (a dog, running | two dogs); seen 2",
        beside(FLICKR, {"captions.txt": "image,caption\n"
                        + "".join(f"{name[7:]},a dog, running\n{name[7:]},two dogs\n" for name in FLICKR)})),
    Row("Flickr8k.token.txt", AREA, "name#0, a tab, a caption", "2 captioned (a dog runs | two dogs); seen 2",
        beside(FLICKR, {"Flickr8k.token.txt":
                        "".join(f"{name[7:]}#0\ta dog runs\n{name[7:]}#1\ttwo dogs\n" for name in FLICKR)})),
    Row("an image with two labels", AREA, "labels.csv names it twice",
        "0.png has two labels, cat and dog; expected one class per image",
        refuses(FOUR, {"labels.csv": "file,label\n0.png,cat\n0.png,dog\n1.png,cat\n"}, kind="metadata")),
    Row("a table of another set", AREA, "labels of 1 of 4 images", "labels.csv names 1 of 4 images, so it may be another set's",
        refuses(FOUR, {"labels.csv": "file,label\n0.png,cat\n"}, kind="metadata")),
    Row("images that the table leaves out", AREA, "labels of 3 of 4 images", "1 passed over: 1 no label in a table",
        beside(FOUR, {"labels.csv": "file,label\n0.png,cat\n1.png,cat\n2.png,cat\n"})),
    Row("a split column", AREA, "metadata.csv: file_name, label, split",
        "metadata: a 1+1, b 1+0; seen 3 = 2 train + 1 val + 0 skipped; 1 passed over: 1 of the test split, kept apart",
        beside(FOUR, {"metadata.csv": "file_name,label,split\n0.png,a,train\n1.png,b,train\n2.png,a,valid\n3.png,b,test\n"})),
    Row("a split column with words of its own", AREA, "split: fold1, fold2, asked for by shard.columns",
        "the split column has the value 'fold1'; say what it is, shard.roles: {fold1: train}",
        refuses(FOUR, {"metadata.csv": "file_name,label,part\n0.png,a,fold1\n1.png,a,fold1\n2.png,a,fold2\n3.png,a,fold2\n"},
                columns={"split": "part"})),
    Row("the same, said by roles", AREA, "shard.roles: {fold1: train, fold2: val}", f"metadata: a 2+2; {HALF}",
        beside(FOUR, {"metadata.csv": "file_name,label,part\n0.png,a,fold1\n1.png,a,fold1\n2.png,a,fold2\n3.png,a,fold2\n"},
               columns={"split": "part"}, roles={"fold1": "train", "fold2": "val"})),
    Row("captions that kind folder does not read", AREA, "metadata.csv beside the images, kind folder",
        "metadata.csv names these images and is not read by kind folder: shard.kind: metadata takes labels, captions",
        beside(FOUR, {"metadata.csv": "file_name,text\n" + "".join(f"{name},a cat\n" for name in FOUR)}, kind="folder")),
    Row("texts that kind class_folder does not read", AREA, "cat/*.txt, dog/*.txt beside the images",
        "4 texts beside the images are not read by kind class_folder: shard.tables: ['*.txt'] takes captions from it",
        beside(PETS, PET_TEXTS, kind="class_folder")),
    Row("class folders with a text beside each image", AREA, "kind auto: both are taken",
        "class_folder: cat 1+1, dog 1+1; 4 captioned (pet); seen 4",
        beside(PETS, PET_TEXTS)),
    Row("credits beside the photographs", AREA, "LICENSE.txt, sources.txt with links, md5sums.txt: a name and one text per line",
        "class_folder: cat 12+12, dog 12+12; seen 48 = 24 train + 24 val + 0 skipped; 3 passed over: 3 .txt: not a picture",
        beside([*some("cat", 24), *some("dog", 24)], {
            "LICENSE.txt": "".join(f"cat/cat_{n:03d}.png CC-BY by somebody else\n" for n in range(24)),
            "sources.txt": "".join(f"cat/cat_{n:03d}.png https://example.invalid/{n}\n" for n in range(24)),
            "sums.txt": "".join(f"cat/cat_{n:03d}.png {n:032x}\n" for n in range(24))})),
    Row("a table that is not there", AREA, "shard.tables: [label.csv]",
        "shard.tables names label.csv, which shard.source data does not have; it has labels.csv",
        refuses(FOUR, {"labels.csv": "file,label\n0.png,cat\n"}, kind="metadata", tables=["label.csv"])),
    Row("no labels at all", AREA, "kind metadata on bare images",
        "has no labels, captions or splits in files beside its images; expected metadata.jsonl",
        refuses(FOUR, {}, kind="metadata")),
)  # fmt: skip
