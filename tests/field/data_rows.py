"""What newcomers bring beside the known layouts: tables of other forms, folders within folders, names of classes, odd files."""

import json
import shutil
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from shards.inspect import Asked, inspected
from tests.field.counting import refused
from tests.field.label_rows import json_lines, parquet
from tests.field.laid_out import Texts, lay, some, taken, tried, turned_away
from tests.field.place import picture_bytes, write
from tests.field.table import Field, Row
from tests.field.tar_rows import jpg, tar

AREA = "Data: what newcomers bring"
Outcome = Callable[[Field, Path], str]
FOUR = [f"{number}.png" for number in range(4)]
PETS = [*some("cat", 4), *some("dog", 4)]
SPECIES = [f"{genus}/{name}/{n}.png" for genus, names in (("canis", ("aureus", "lupus")), ("felis", ("catus", "margarita")))
           for name in names for n in range(2)]  # fmt: skip
FOLDS = [f"fold{fold}/{cls}/{fold}{n}.png" for fold in (1, 2, 3) for cls in ("cat", "dog") for n in range(2)]
HALF = "seen 4 = 2 train + 2 val + 0 skipped"


def made(images: Iterable[str], texts: Texts | None = None, **changes: Any) -> Outcome:
    """What `kind: auto` (or another) makes of images with these files beside them."""
    return lambda field, folder: taken(folder, images, texts, **changes)


def refuses(images: Iterable[str], texts: Texts | None = None, **changes: Any) -> Outcome:
    """The line in which `inspect` and `shard` refuse them."""
    return lambda field, folder: turned_away(folder, images, texts, **changes)


def rows(form: str, head: str = "", names: Iterable[str] = FOUR) -> str:
    """A line for each image: {name}, {k} its label, {n} its number."""
    return head + "".join(form.format(name=name, k=f"k{n % 2}", n=n) + "\n" for n, name in enumerate(names))


def linked(field: Field, folder: Path) -> str:
    """A class folder that is a link to another disk."""
    data = lay(folder / "data", PETS)
    shutil.move(data / "dog", folder / "elsewhere")
    (data / "dog").symlink_to(folder / "elsewhere")
    return "; ".join(line for line in inspected(Asked(str(data))) if "classes of" in line or "splits" in line)


def with_zip(images: list[str], act: Callable[[Path, Path], str]) -> Outcome:
    """A zip in a folder, beside images."""

    def outcome(field: Field, folder: Path) -> str:
        data = lay(folder / "data", images)
        data.mkdir(exist_ok=True)
        with zipfile.ZipFile(data / "images.zip", "w") as archive:
            for number, name in enumerate(PETS):
                archive.writestr(name, picture_bytes(number))
        return act(data, folder)

    return outcome


def twice(field: Field, folder: Path) -> str:
    """The same picture in train and in val."""
    data = lay(folder / "data", [f"{split}/{name}" for split in ("train", "val") for name in PETS])
    shutil.copy(data / "train/cat/cat_000.png", data / "val/cat/cat_000.png")
    return next(line for line in inspected(Asked(str(data), duplicates=True)) if "duplicates" in line)


def torn_class(most: float, **changes: Any) -> Outcome:
    """A class whose files are all torn."""

    def outcome(field: Field, folder: Path) -> str:
        data = lay(folder / "data", PETS)
        for number in range(3):
            write(data / "bird" / f"{number}.png", b"torn")
        if changes:
            return tried(data, folder, max_bad_fraction=most, **changes)
        return refused(data, folder / "run", kind="auto", max_bad_fraction=most)

    return outcome


def odd_line(field: Field, folder: Path) -> str:
    """A class folder with a line end in its name."""
    data = lay(folder / "data", [f"{cls}/{n}.png" for cls in ("new\nline", "dog") for n in range(2)])
    lines = inspected(Asked(str(data)))
    assert not any("\n" in line for line in lines)
    return next(line for line in lines if "classes of" in line)


def path_list(field: Field, folder: Path) -> str:
    """A table of paths, slashes and line ends of Windows."""
    lay(folder / "data", FOUR)
    text = rows("data\\{name},{k}", "path,label\n").replace("\n", "\r\n")
    return tried(write(folder / "list.csv", text.encode()), folder)


def of_tars(names: Mapping[str, bytes], classes_from: int = 0) -> Outcome:
    """A folder with a tar of four samples and these files."""

    def outcome(field: Field, folder: Path) -> str:
        members = {}
        for n in range(4):
            members |= {f"{n:03d}.jpg": jpg(n), f"{n:03d}.cls": str(n % 2 + classes_from).encode()}
        tar(folder / "t" / "0.tar", members)
        for name, data in names.items():
            write(folder / "t" / name, data)
        return tried(folder / "t", folder)

    return outcome


COCO = json.dumps({
    "images": [{"id": n, "file_name": name} for n, name in enumerate(FOUR)],
    "annotations": [{"image_id": n, "category_id": n % 2, "bbox": [0, 0, 9, 9]} for n in range(4)],
    "categories": [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}],
})  # fmt: skip
NOT_READ = "names these images, and is not read; a table of names and labels or captions would be (metadata.csv, metadata.jsonl)"
NUMBERS = [f"{cls}/{n}.png" for cls in (1, 2, 10) for n in range(2)]

ROWS: tuple[Row, ...] = (
    Row("comments before a table", AREA, "labels.csv: # by me, # v2, file,label", f"metadata: k0 1+1, k1 1+1; {HALF}", made(FOUR, {"labels.csv": rows("{name},{k}", "# by me\n# v2\nfile,label\n")})),
    Row("a header behind a hash", AREA, "labels.csv: # file,label", f"metadata: k0 1+1, k1 1+1; {HALF}", made(FOUR, {"labels.csv": rows("{name},{k}", "# file,label\n")})),
    Row("addresses on the web in a table", AREA, "image_url: https://x.org/d/0.png?w=3", f"metadata: k0 1+1, k1 1+1; {HALF}",
        made(FOUR, {"labels.csv": rows("https://x.org/d/{name}?w=3,{k}", "image_url,label\n")})),
    Row("addresses with %20 in them", AREA, "https://x.org/a%20b0.png", f"metadata: k0 1+1, k1 1+1; {HALF}",
        made([f"a b{n}.png" for n in range(4)], {"labels.csv": rows("https://x.org/a%20b{n}.png,{k}", "image_url,label\n")})),
    Row("whole paths of another machine in JSON lines", AREA, "/home/me/x/0.png", f"metadata: k0 1+1, k1 1+1; {HALF}",
        made(FOUR, {"m.jsonl": json_lines(*({"path": f"/home/me/x/{n}", "label": f"k{i % 2}"} for i, n in enumerate(FOUR)))})),
    Row("paths of Windows in JSON lines", AREA, r"D:\set\a\0.png", "4 captioned (cap 0 | cap 1 | cap 2 | cap 3)",
        made([f"a/{n}" for n in FOUR], {"m.jsonl": json_lines(*({"path": f"D:\\set\\a\\{n}", "caption": f"cap {i}"} for i, n in enumerate(FOUR)))})),
    Row("semicolons and decimal commas", AREA, "file;score;label: 0.png;0,5;k0", "label from label; not read: score (shard.columns: {label: score} takes one)",
        made(FOUR, {"labels.csv": rows("{name};0,{n};{k}", "file;score;label\n")})),
    Row("numbers and names of the classes in one table", AREA, "class_id, class_name: the names are taken", "label from class_name; not read: class_id",
        made(FOUR, {"labels.csv": rows("{name},{n},{k}", "file,class_id,class_name\n")})),
    Row("headers in another language", AREA, "Bild,Klasse", "daten.csv names images, but none of its other columns is read: Klasse (shard.columns: {label: Klasse} takes one)",
        made(FOUR, {"daten.csv": rows("{name},{k}", "Bild,Klasse\n")})),
    Row("the same, said by a setting", AREA, "shard.columns: {label: Klasse}", f"metadata: k0 1+1, k1 1+1; {HALF}",
        made(FOUR, {"daten.csv": rows("{name},{k}", "Bild,Klasse\n")}, columns={"label": "Klasse"})),
    Row("tags in a table that is named after a split", AREA, "Kaggle's planet: train.csv: image_name,tags", "train.csv names images, but none of its other columns is read: tags",
        made(FOUR, {"train.csv": rows("{n},haze primary", "image_name,tags\n")})),
    Row("several labels in a cell", AREA, "labels: a|b, a, b", "a|b: may be several labels of one image, and each combination is a class of its own",
        made(FOUR, {"labels.csv": "file,labels\n0.png,a|b\n1.png,a\n2.png,b\n3.png,a|b\n"})),
    Row("a Parquet with other names of its columns", AREA, "uri: s3://b/0.png, alt", "4 captioned (a cat 0 | a cat 1 | a cat 2 | a cat 3)",
        made(FOUR, {"d.parquet": parquet({"uri": [f"s3://b/{n}" for n in FOUR], "alt": [f"a cat {i}" for i in range(4)]})})),
    Row("captions in two languages", AREA, "caption_en, caption_de: one is taken, the other said", "caption from caption_en; not read: caption_de (shard.columns: {caption: caption_de} takes one)",
        made(FOUR, {"c.csv": rows("{name},a cat on mat {n},eine Katze hier {n}", "file,caption_en,caption_de\n")})),
    Row("captions in a column of another name", AREA, "beschreibung: said as a caption, by its words", "none of its other columns is read: beschreibung (shard.columns: {caption: beschreibung} takes one)",
        made(FOUR, {"c.csv": rows("{name},eine kleine Katze {n}", "file,beschreibung\n")})),
    Row("COCO's boxes beside the images", AREA, "instances.json", f"instances.json: {NOT_READ}", made(FOUR, {"instances.json": COCO})),
    Row("a JSON of the images of each class", AREA, '{"cat": ["0.png", "1.png"], "dog": […]}', f"sets.json: {NOT_READ}", made(FOUR, {"sets.json": json.dumps({"cat": FOUR[:2], "dog": FOUR[2:]})})),
    Row("labels as YAML", AREA, "labels.yaml: 0.png: cat", f"labels.yaml: {NOT_READ}", made(FOUR, {"labels.yaml": rows("{name}: {k}")})),
    Row("labels in a spreadsheet and an array", AREA, "labels.xlsx, y.npy; model.pt is none", "labels.xlsx, y.npy: named after labels, and not read",
        made(FOUR, {"labels.xlsx": b"PK", "y.npy": b"\x93NUMPY", "model.pt": b"x"})),
    Row("numbered labels with a list of names", AREA, "labels.csv: 0, 1; classes.txt", "metadata: tench 1+1, goldfish 1+1; seen 4", made(FOUR, {"labels.csv": rows("{name},{n}", "file,label\n").replace(",2", ",0").replace(",3", ",1"), "classes.txt": "tench\ngoldfish\n"})),
    Row("numbered folders with names in a JSON", AREA, '1/, 2/, 10/; cat_to_name.json: {"1": "rose", …}', "class_folder: rose 1+1, iris 1+1, lily 1+1; seen 6",
        made(NUMBERS, {"cat_to_name.json": '{"1": "rose", "2": "lily", "10": "iris"}'})),
    Row("numbered folders with too few names", AREA, "1/, 2/, 10/; classes.txt of two lines", "class_folder: 1 1+1, 10 1+1, 2 1+1; seen 6 = 3 train + 3 val + 0 skipped; 1 passed over",
        made(NUMBERS, {"classes.txt": "rose\nlily\n"})),
    Row("numbered folders with the images' labels in a text", AREA, "0/, 1/, 2/; labels.txt: 2, 1, 0, 0, 1, 2: no names of classes", "class_folder: 0 1+1, 1 1+1, 2 1+1; seen 6",
        made([f"{cls}/{n}.png" for cls in range(3) for n in range(2)], {"labels.txt": "2\n1\n0\n0\n1\n2\n"})),
    Row("species in folders of their genus", AREA, "canis/lupus/, felis/catus/ …", "the images in folders of canis/ (aureus, lupus) are of the class canis: shard.kind: class_folder with shard.columns: {label: folder} makes the inner",
        made(SPECIES)),
    Row("the same, the inner folders asked for", AREA, "kind class_folder, shard.columns: {label: folder}", "class_folder: aureus 1+1, catus 1+1, lupus 1+1, margarita 1+1; seen 8",
        made(SPECIES, kind="class_folder", columns={"label": "folder"})),
    Row("folds with the same classes in each", AREA, "fold1/{cat,dog}, fold2/{cat,dog} …", "the folders fold1, fold2, fold3 each hold the folders cat, dog, so either may be the classes; set shard.kind: class_folder", refuses(FOLDS)),
    Row("the same, the inner folders asked for in them", AREA, "kind class_folder, shard.columns: {label: folder}", "class_folder: cat 3+3, dog 3+3; seen 12", made(FOLDS, kind="class_folder", columns={"label": "folder"})),
    Row("inner folders in each split", AREA, "train/canis/lupus, val/canis/lupus …; {label: folder}", "class_folder: aureus 2+2, catus 2+2, lupus 2+2, margarita 2+2; seen 16",
        made([f"{split}/{name}" for split in ("train", "val") for name in SPECIES], kind="class_folder", columns={"label": "folder"})),
    Row("a class in two Unicode forms", AREA, "train/café composed, val/café decomposed, as a Mac writes it: one class", "class_folder: café 2+1, tea 2+1; seen 6",
        made([f"{split}/{cls}/{n}.png" for split, form, count in (("train", "caf\u00e9", 2), ("val", "cafe\u0301", 1)) for cls in (form, "tea") for n in range(count)])),
    Row("classes that differ by a space", AREA, "'cat', 'cat '", "classes whose names differ only by spaces or the form of signs: 'cat', 'cat '", made([f"{cls}/{n}.png" for cls in ("cat", "cat ") for n in range(2)])),
    Row("a line end in a class's name", AREA, "new\\nline/", "2 classes of 2 images: dog 2, new\\nline 2", odd_line),
    Row("a class folder on another disk", AREA, "dog/ is a link", "2 classes of 4 images: cat 4, dog 4; splits: train 7, val 1", linked),
    Row("a zip beside the class folders", AREA, "cat/, dog/, images.zip", "images.zip beside the pictures not read: unpack it, or name it alone", with_zip(PETS, tried)),
    Row("the same picture in train and val", AREA, "--duplicates", "1 duplicates: images with the bytes of another one; 1 are in both splits", twice),
    Row("a class in whose folder every file is torn", AREA, "bird/: three torn files, max_bad_fraction 1", "1 of 3 classes have no readable training image: bird; see run/work/skipped.jsonl. Fix the files, or leave them out, shard.roles: {bird: skip}", torn_class(1.0)),
    Row("the same, left out", AREA, "shard.roles: {bird: skip}", "class_folder: cat 2+2, dog 2+2; seen 8 = 4 train + 4 val + 0 skipped; 3 passed over: 3 left out by shard.roles", torn_class(0.0, roles={"bird": "skip"})),
    Row("species beside breed", AREA, "species is the same for all", "label from breed; not read: species", made(FOUR, {"l.csv": rows("{name},dog,{k}", "file,species,breed\n")})),
    Row("labels in the images' order, without names", AREA, "labels.txt: k0, k1, k0, k1", "labels.txt: one line per image, but no names, and not read", made(FOUR, {"labels.txt": rows("{k}")})),
    Row("Kaggle's CIFAR-10", AREA, "train/1.png …, test/1.png …, trainLabels.csv: id,label: names that both folders have",
        f"metadata: k0 1+1, k1 1+1; {HALF}; 4 passed over: 3 of the test split, kept apart, 1 .csv", made(
            [*(f"train/{n}.png" for n in range(1, 5)), *(f"test/{n}.png" for n in range(1, 4))],
            {"trainLabels.csv": "id,label\n1,k0\n2,k1\n3,k0\n4,k1\n", "sampleSubmission.csv": "id,label\n1,k0\n2,k0\n3,k0\n"})),
    Row("captions and addresses with a tab between", AREA, "Conceptual Captions: a cat TAB http://x/0.png", "4 captioned (a cat on mat 0 | a cat on mat 1", made(FOUR, {"Train_GCC.tsv": rows("a cat on mat {n}\thttp://x/{name}")})),
    Row("a label of its own for each image", AREA, "30 ids in a column label", "labels.csv names images, but none of its other columns is read: label", made(
        [f"{n}.png" for n in range(30)], {"labels.csv": "file,label\n" + "".join(f"{n}.png,id{n}\n" for n in range(30))})),
    Row("captions in a column called label", AREA, "label: a photo of a cat 0", "none of its other columns is read: label (shard.columns: {caption: label} takes one)", made(FOUR, {"m.csv": rows("{name},a photo of a cat {n}", "file,label\n")})),
    Row("folds in a column called split", AREA, "split: 0 … 3", "not read: split (shard.columns: {split: split} takes one)", made(FOUR, {"m.csv": rows("{name},{k},{n}", "file,label,split\n")})),
    Row("a list of paths that Windows wrote", AREA, r"list.csv: path,label: data\\0.png", f"metadata: k0 1+1, k1 1+1; {HALF}", path_list),
    Row("tars with classes from 1 on", AREA, "cls 1, 2; classnames.txt of two lines", "webdataset: tench 1+1, goldfish 1+1; seen 4", of_tars(classes_from=1, names={"classnames.txt": b"tench\ngoldfish\n"})),
    Row("tars with the names of classes in a JSON object", AREA, 'cls 0, 1; classes.json: {"0": "tench", "1": "goldfish"}', "webdataset: tench 1+1, goldfish 1+1; seen 4", of_tars(names={"classes.json": b'{"0": "tench", "1": "goldfish"}'})),
    Row("other files beside the tars", AREA, "img2dataset's 00000.parquet, 00000_stats.json", "2 passed over: 1 .json: not a picture, 1 .parquet: not a picture", of_tars(names={"00000.parquet": b"PAR1", "00000_stats.json": b"{}"})),
    Row("an empty class folder in train", AREA, "train/bird/ with nothing in it", "empty folders: train/bird/", lambda field, folder: emptied(folder)),
)  # fmt: skip


def emptied(folder: Path) -> str:
    data = lay(folder / "data", [f"{split}/{name}" for split in ("train", "val") for name in PETS])
    (data / "train" / "bird").mkdir()
    return tried(data, folder)
