"""Layouts that outsiders have: splits, wrappers and system folders known by name, nothing mislabelled without a word."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.field.counting import refused
from tests.field.laid_out import lay, some, taken, turned_away
from tests.field.table import Field, Row

AREA = "Data: layouts and splits"
Outcome = Callable[[Field, Path], str]
CATS_AND_DOGS = [*some("train/cat", 3), *some("train/dog", 3)]


def shards(*images: str, **changes: object) -> Outcome:
    """What `kind: auto` (or another) makes of these images."""
    return lambda field, folder: taken(folder, images, **changes)


def refuses(*images: str, **changes: object) -> Outcome:
    """The line in which `inspect` and `shard` refuse them."""
    return lambda field, folder: turned_away(folder, images, **changes)


def devkit(numbers: dict[int, str]) -> Callable[[], bytes]:
    """The devkit's meta.mat, with these WordNet ids by number; made when it is written."""

    def written() -> bytes:
        from scipy.io import savemat

        rows = np.array(
            [(number, wnid, f"words of {wnid}") for number, wnid in numbers.items()],
            dtype=[("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O")],
        )
        made = io.BytesIO()
        savemat(made, {"synsets": rows.reshape(-1, 1)})
        return made.getvalue()

    return written


WNIDS = ("n01440764", "n01443537")
IMAGENET = [
    *(f"train/{wnid}/{wnid}_{number}.JPEG" for wnid in WNIDS for number in range(2)),
    *(f"val/ILSVRC2012_val_0000000{number}.JPEG" for number in (1, 2, 3)),
]
TRUTH = {
    "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt": "490\n1\n490\n",
    "ILSVRC2012_devkit_t12/data/meta.mat": devkit({1: WNIDS[0], 490: WNIDS[1], 7: "n00000000"}),
}
KAGGLE = {
    "LOC_val_solution.csv": "ImageId,PredictionString\n"
    + "".join(
        f"ILSVRC2012_val_0000000{n},{WNIDS[n % 2]} 1 2 30 40 {WNIDS[n % 2]} 3 4 50 60 \n" for n in (3, 1, 2)
    )
}
ANNOTATIONS = f"val_0.JPEG\t{WNIDS[1]}\t0\t0\t9\t9\nval_1.JPEG\t{WNIDS[0]}\t1\t1\t8\t8\n"
TINY_IMAGENET = [
    *(f"train/{wnid}/images/{wnid}_{number}.JPEG" for wnid in WNIDS for number in range(2)),
    *(f"val/images/val_{number}.JPEG" for number in range(2)),
    *(f"test/images/test_{number}.JPEG" for number in range(2)),
]


def imagenet(texts: dict[str, str | bytes], images: list[str] = IMAGENET) -> Outcome:
    """ImageNet in small, with these files beside it."""
    return lambda field, folder: taken(folder, images, texts)


def trees(*names: str) -> Outcome:
    """Two classes and files of a system's own."""

    def outcome(field: Field, folder: Path) -> str:
        system = {name: b"\0\1" for name in names if not name.endswith(".png")}
        images = [*some("cat", 3), *some("dog", 3), *(name for name in names if name.endswith(".png"))]
        return taken(folder, images, system)

    return outcome


def added(field: Field, folder: Path) -> str:
    """Images added one by one to one of two classes: how many others change their split."""
    from shards.making.sources import list_source
    from shards.making.splits import with_splits

    source, before, most, others = folder / "data", dict[str, str | None](), 0, 0
    lay(source, [*some("cat", 20), *some("dog", 20)])
    for number in range(20, 40):
        found = {
            image.name: image.split for image in with_splits(list_source("auto", str(source)), 0.2, 0).images
        }
        moved = [name for name in before if before[name] != found[name]]
        most, others = max(most, len(moved)), others + sum(name.startswith("cat") for name in moved)
        before = found
        lay(source, [f"dog/dog_{number:03d}.png"])
    return f"at most {most} of its own class move, {others} of the other"


def nothing_held_out(field: Field, folder: Path) -> str:
    """No validation set, and none asked for."""
    return refused(lay(folder / "data", CATS_AND_DOGS), folder / "run", kind="auto", val_fraction=0.0)


ROWS: tuple[Row, ...] = (
    Row("test images loose beside train/{cat,dog}", AREA, "train/cat, train/dog, test/*.png",
        "class_folder: cat 1+2, dog 1+2; seen 6 = 2 train + 4 val + 0 skipped; 2 passed over: 2 of the test split, kept apart",
        shards(*CATS_AND_DOGS, *some("test", 2))),
    Row("a flat val/ beside ImageNet's train/ folders", AREA, "with the devkit: meta.mat and the ground truth",
        "class_folder: n01440764 2+1, n01443537 2+2; seen 7 = 4 train + 3 val + 0 skipped", imagenet(TRUTH)),
    Row("the same, labels from Kaggle's CSV", AREA, "LOC_val_solution.csv: name, class and boxes, in any order",
        "class_folder: n01440764 2+1, n01443537 2+2; seen 7", imagenet(KAGGLE)),
    Row("the same, a class a line", AREA, "validation labels as WordNet ids in the order of the names",
        "class_folder: n01440764 2+2, n01443537 2+1; seen 7",
        imagenet({"imagenet_2012_validation_synset_labels.txt": f"{WNIDS[1]}\n{WNIDS[0]}\n{WNIDS[0]}\n"})),
    Row("the same without any labels", AREA, "train/CLASS/, val/*.JPEG and nothing else",
        "data/val/ holds 3 images outside class folders, and there are 2 training classes: put a table of names and classes beside it",
        refuses(*IMAGENET)),
    Row("the same, left out by a role", AREA, "shard.roles: {val: skip}",
        "n01440764 1+1, n01443537 1+1; seen 4 = 2 train + 2 val + 0 skipped; 3 passed over: 3 left out by shard.roles",
        shards(*IMAGENET, roles={"val": "skip"})),
    Row("a ground truth that is too short", AREA, "2 lines for 3 validation images",
        "it has 2 lines; expected the devkit's meta.mat, and a line for each of 3 images",
        lambda field, folder: turned_away(folder, IMAGENET, TRUTH | {next(iter(TRUTH)): "1\n490\n"})),
    Row("Tiny ImageNet: val/images and val_annotations.txt", AREA, "train/CLASS/images, a tab-separated list without a header",
        "class_folder: n01440764 2+1, n01443537 2+1; seen 6 = 4 train + 2 val + 0 skipped; 2 passed over: 2 of the test split",
        imagenet({"val/val_annotations.txt": ANNOTATIONS}, TINY_IMAGENET)),
    Row("MNIST as PNG: training/ and testing/", AREA, "training/{0..2}, testing/{0..2}",
        "0 2+2, 1 2+2, 2 2+2; seen 12 = 6 train + 6 val + 0 skipped; 6 passed over: 6 of the test split, kept apart",
        shards(*(f"{split}/{digit}/{number}.png" for split, count in (("training", 4), ("testing", 2))
                 for digit in range(3) for number in range(count)))),
    Row("a split called dev", AREA, "train/{cat,dog}, dev/{cat,dog}", "class_folder: cat 3+1, dog 3+1; seen 8",
        shards(*CATS_AND_DOGS, *some("dev/cat", 1), *some("dev/dog", 1))),
    Row("train, valid and test of Kaggle", AREA, "three split folders with the same classes",
        "class_folder: cat 3+1, dog 3+1; seen 8 = 6 train + 2 val + 0 skipped; 4 passed over: 4 of the test split, kept apart; "
        "test/ (4 images) is kept apart, neither trained nor validated on: shard.roles: {test: val} takes it for validation",
        shards(*CATS_AND_DOGS, *(name for cls in ("cat", "dog")
                                 for name in (*some(f"valid/{cls}", 1), *some(f"test/{cls}", 2))))),
    Row("the test split is wanted for validation", AREA, "train and test, shard.roles: {test: val}",
        "class_folder: cat 3+2, dog 3+2; seen 10 = 6 train + 4 val",
        shards(*CATS_AND_DOGS, *some("test/cat", 2), *some("test/dog", 2), roles={"test": "val"})),
    Row("training_set/training_set/cats of Kaggle", AREA, "each split in a folder of its own name",
        "class_folder: cats 2+2, dogs 2+2; seen 8 = 4 train + 4 val + 0 skipped; 4 passed over: 4 of the test split",
        shards(*(name for cls in ("cats", "dogs") for name in (*some(f"training_set/training_set/{cls}", 4),
                                                             *some(f"test_set/test_set/{cls}", 2))))),
    Row("an archive that was unpacked into a folder of its own", AREA, "dataset/train/cat, dataset/val/cat …",
        "class_folder: cat 2+1, dog 2+1; seen 6 = 4 train + 2 val",
        shards(*(name for cls in ("cat", "dog") for name in (*some(f"dataset/train/{cls}", 2), *some(f"dataset/val/{cls}", 1))))),
    Row("the same three deep, without splits", AREA, "ILSVRC/Data/CLS-LOC/CLASS",
        "ILSVRC/Data/CLS-LOC/ holds everything and was entered; if it is a class, set shard.roles: {ILSVRC/Data/CLS-LOC",
        shards(*some("ILSVRC/Data/CLS-LOC/a", 2), *some("ILSVRC/Data/CLS-LOC/b", 2))),
    Row("a real class called train, with folders in it", AREA, "apple/, bear/, train/steam/, train/diesel/",
        "train/ is named like a split, and beside it are apple/, bear/; say what each is (train, val, test, class or skip), "
        "such as shard.roles: {train: class} or {apple: skip}",
        refuses(*some("apple", 1), *some("bear", 1), *some("train/steam", 1), *some("train/diesel", 1))),
    Row("the same, said by a role", AREA, "shard.roles: {train: class}", "class_folder: apple 1+1, bear 1+1, train 2+2; seen 8",
        shards(*some("apple", 2), *some("bear", 2), *some("train/steam", 2), *some("train/diesel", 2), roles={"train": "class"})),
    Row("a class called train in each split", AREA, "CIFAR-100's train/train and test/train",
        "train/train/ is named like a split where classes are expected; say what it is, shard.roles: {train/train: class}",
        refuses(*some("train/bear", 2), *some("train/train", 2), *some("test/bear", 2), *some("test/train", 2))),
    Row("the same in each split, said by a role", AREA, "shard.roles: {train/train: class}",
        "class_folder: bear 1+1, train 1+1; seen 4",
        shards(*some("train/bear", 2), *some("train/train", 2), *some("test/bear", 2), roles={"train/train": "class"})),
    Row("splits inside the classes", AREA, "cat/{train,test}, dog/{train,test}",
        "class_folder: cat 1+2, dog 1+2; seen 6 = 2 train + 4 val + 0 skipped; 4 passed over: 4 of the test split, kept apart",
        shards(*(name for cls in ("cat", "dog") for name in (*some(f"{cls}/train", 3), *some(f"{cls}/test", 2))))),
    Row("splits inside some of the classes only", AREA, "cat/{train,test}, dog/*.png",
        "cat/test/ is named like a split inside a class folder, and not every class has splits",
        refuses(*some("cat/train", 2), *some("cat/test", 2), *some("dog", 2), kind="class_folder")),
    Row("a folder beside the splits that is none", AREA, "train/, val/ and extra/",
        "train/, val/ are named like a split, and beside them is extra/; say what each is",
        refuses(*CATS_AND_DOGS, *some("val/cat", 1), *some("extra", 2))),
    Row("the same folder left out by a role", AREA, "shard.roles: {extra: skip}",
        "class_folder: cat 3+1, dog 3+1; seen 8 = 6 train + 2 val + 0 skipped; 2 passed over: 2 left out by shard.roles",
        shards(*CATS_AND_DOGS, *some("val/cat", 1), *some("val/dog", 1), *some("extra", 2), roles={"extra": "skip"})),
    Row("a role for what is not there", AREA, "shard.roles: {testt: skip}",
        "shard.roles names testt, which shard.source data does not have",
        refuses(*CATS_AND_DOGS, roles={"testt": "skip"})),
    Row("CycleGAN's trainA, trainB, testA, testB", AREA, "four folders that begin like splits",
        "the folders testA, testB, trainA, trainB begin or end like splits, but would be classes; say what each is, "
        "shard.roles: {testA: class, testB: class, trainA: class} (or train, val, test, skip)",
        refuses(*(name for folder in ("trainA", "trainB", "testA", "testB") for name in some(folder, 2)))),
    Row("the same, one side of it", AREA, "shard.roles: {trainA: train, testA: val, trainB: skip, testB: skip}",
        "folder: no classes; seen 4 = 2 train + 2 val + 0 skipped; 4 passed over: 4 left out by shard.roles",
        shards(*(name for folder in ("trainA", "trainB", "testA", "testB") for name in some(folder, 2)),
               roles={"trainA": "train", "testA": "val", "trainB": "skip", "testB": "skip"})),
    Row("a class called test_tube among others", AREA, "beaker/, flask/, test_tube/",
        "class_folder: beaker 1+1, flask 1+1, test_tube 1+1; seen 6 = 3 train + 3 val + 0 skipped; "
        "test_tube taken for a class, although the name is close to a split's",
        shards(*some("beaker", 2), *some("flask", 2), *some("test_tube", 2))),
    Row("nothing to train on", AREA, "a folder with test/ and val/ alone",
        "has no images to train on: its folders are test, val; say which is for training, shard.roles: {test: train}",
        refuses(*some("test/cat", 1), *some("val/cat", 1))),
    Row("images loose among class folders", AREA, "cat/, dog/ and cover.png, kind class_folder",
        "data/cover.png is in no class folder; expected CLASS/NAME.jpg (the folders beside it: cat, dog), or kind folder",
        refuses(*some("cat", 1), *some("dog", 1), "cover.png", kind="class_folder")),
    Row("notebooks and thumbnails among the classes", AREA, ".ipynb_checkpoints, .thumbnails, @eaDir with pictures in them",
        "class_folder: cat 1+2, dog 1+2; seen 6 = 2 train + 4 val + 0 skipped; 4 passed over: 2 in the system folder @eaDir, "
        "1 in the system folder .ipynb_checkpoints, 1 in the system folder .thumbnails",
        trees(".ipynb_checkpoints/a.png", ".thumbnails/b.png", "cat/@eaDir/c.png", "@eaDir/d.png")),
    Row("a zip from a Mac, unpacked", AREA, "__MACOSX/cat/._a.png, cat/._a.png, .DS_Store, Thumbs.db",
        "cat 1+2, dog 1+2; seen 6 = 2 train + 4 val + 0 skipped; 4 passed over: 3 hidden file, 1 in the system folder __MACOSX",
        trees("__MACOSX/cat/._a", "cat/._a", ".DS_Store", "dog/Thumbs.db")),
    Row("images and their masks in two folders", AREA, "images/*.png, masks/*.png",
        "the folders images, masks look like parts of one data set, not like classes; leave out what is not a photograph, "
        "shard.roles: {masks: skip}", refuses(*some("images", 2), *some("masks", 2))),
    Row("FFHQ's numbered folders", AREA, "00000/00000.png …, 01000/01000.png …",
        "folder: no classes; seen 6 = ", shards(*(f"{n // 1000 * 1000:05d}/{n:05d}.png" for n in (0, 1, 2, 1000, 1001, 1999)))),
    Row("folders named after hashes", AREA, "ab/abcdef01.png, 0f/0f123456.png", "folder: no classes; seen 4 = ",
        shards("ab/abcdef01.png", "ab/ab000001.png", "0f/0f123456.png", "0f/0fffff01.png")),
    Row("a camera's folders by date", AREA, "2021-05-03/IMG_1.png, 2022-01-01/IMG_2.png", "folder: no classes; seen 4 = ",
        shards(*some("2021-05-03", 2), *some("2022-01-01", 2))),
    Row("one folder of images", AREA, "img_align_celeba/*.png",
        "folder: no classes; seen 4 = ", shards(*some("img_align_celeba", 4))),
    Row("unlabelled splits", AREA, "train2017/*.png, val2017/*.png, test2017/*.png",
        "folder: no classes; seen 6 = 4 train + 2 val + 0 skipped; 3 passed over: 3 of the test split, kept apart",
        shards(*some("train2017", 4), *some("val2017", 2), *some("test2017", 3))),
    Row("a class without a training image", AREA, "val/ has a third class, unicorn",
        "cat 3+1, dog 3+1; seen 8 = 6 train + 2 val + 0 skipped; 2 passed over: 2 of a class without a training image; "
        "1 of 3 classes have no training image and are left out, with their 2 validation images: unicorn",
        shards(*CATS_AND_DOGS, *some("val/cat", 1), *some("val/dog", 1), *some("val/unicorn", 2))),
    Row("classes of one image", AREA, "40 classes of one image, one of ten, val_fraction 0.5",
        "40 of 41 classes have no validation image: c00, c01, c02, c03, c04 and 35 others",
        shards(*(f"c{number:02d}/a.png" for number in range(40)), *some("many", 10))),
    Row("a fraction of each class, not of the whole", AREA, "20 of a, 10 of b, 5 of c, val_fraction 0.2",
        "class_folder: a 16+4, b 8+2, c 4+1; seen 35 = 28 train + 7 val",
        shards(*some("a", 20), *some("b", 10), *some("c", 5), val_fraction=0.2)),
    Row("a source with train alone", AREA, "train/{cat,dog}, val_fraction 0.34",
        "class_folder: cat 2+1, dog 2+1; seen 6 = 4 train + 2 val", shards(*CATS_AND_DOGS, val_fraction=0.34)),
    Row("a source with train alone, and nothing held out", AREA, "val_fraction 0",
        "the split val of shard.source would be empty: of 6 images, shard.val_fraction is 0.0", nothing_held_out),
    Row("two images in all", AREA, "a.png, b.png, val_fraction 0.05", "folder: no classes; seen 2 = 1 train + 1 val + 0 skipped",
        shards("a.png", "b.png", val_fraction=0.05)),
    Row("a class that no validation image shows", AREA, "val/ lacks dog", "1 of 2 classes have no validation image: dog",
        shards(*CATS_AND_DOGS, *some("val/cat", 1))),
    Row("images added to a class", AREA, "20 more, one by one, to one of two classes",
        "at most 1 of its own class move, 0 of the other", added),
)  # fmt: skip
