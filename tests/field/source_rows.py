"""Sources that are not a folder of images: zips, lists, tars, nothing; real layouts; conditions that the data cannot serve."""

import io
import json
import re
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from contextlib import chdir
from pathlib import Path

from tests.field.laid_out import lay, some, taken, tried, turned_away, turned_away_at
from tests.field.table import Field, Row
from tests.hostile.table import World
from tests.shards.making import encoded, picture

AREA = "Data: sources"
Outcome = Callable[[Field, Path], str]
PETS = [*some("cat", 2), *some("dog", 2)]


def zipped(names: list[str], texts: Mapping[str, str] = {}, method: int = zipfile.ZIP_STORED) -> bytes:
    """A zip of pictures and texts."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as archive:
        for number, name in enumerate(names):
            archive.writestr(name, encoded(picture(number)))
        for name, text in texts.items():
            archive.writestr(name, text)
    return made.getvalue()


def from_zip(data: bytes) -> Outcome:
    """What `kind: auto` makes of a zip."""

    def outcome(field: Field, folder: Path) -> str:
        lay(folder, [], {"data.zip": data})
        return tried(folder / "data.zip", folder)

    return outcome


def bad_zip(data: bytes) -> Outcome:
    """The line in which a zip is refused."""
    return lambda field, folder: turned_away_at(lay(folder, [], {"data.zip": data}) / "data.zip", folder)


def listed(
    text: Callable[[Path], str], name: str = "list.txt", inside: bool = True, **changes: object
) -> Outcome:
    """What is made of a list of paths in, or outside of, the folder of the images; the present folder is the row's."""

    def outcome(field: Field, folder: Path) -> str:
        lay(folder / "data", PETS)
        path = (folder / "data" if inside else folder) / name
        path.write_text(text(folder), encoding="utf-8")
        with chdir(folder):
            return tried(path.relative_to(folder), folder, **changes)

    return outcome


def no_list(field: Field, folder: Path) -> str:
    """A text without paths."""
    return turned_away_at(lay(folder, [], {"notes.txt": "buy milk\n"}) / "notes.txt", folder)


def tar_file(field: Field, folder: Path) -> str:
    """A tar.gz of class folders under a kind that reads folders."""
    with tarfile.open(folder / "data.tar.gz", "w:gz") as tar:
        tar.add(lay(folder / "data", PETS), "data")
    return turned_away_at(folder / "data.tar.gz", folder, kind="class_folder")


def tars_taken(field: Field, folder: Path) -> str:
    """A folder of WebDataset's tars, as auto takes it."""
    from shards.layouts.guess import are_tars

    for number in range(2):
        (folder / "data").mkdir(exist_ok=True)
        with tarfile.open(folder / "data" / f"{number:05d}.tar", "w") as tar:
            tar.add(lay(folder / "image", ["a.png"]) / "a.png", "a.png")
    found = [are_tars(str(folder / name)) for name in ("data", "data/*.tar", "image")]
    return f"webdataset: {found[0]}, {found[1]}, not {found[2]}"


def changed(text: str, values: Mapping[str, str]) -> str:
    """A params file with other values at these keys, which stand once in it."""
    for key, value in values.items():
        text, count = re.subn(rf"(?m)^  {key}: .*$", f"  {key}: {value}", text, count=1)
        assert count == 1, key
    return text


def stage(world: World, folder: Path, **changes: str) -> str:
    """Run `shard` as `dvc repro` would, by a params file with these lines in it; what a user is told."""
    text = (world.root / "params.yaml").read_text(encoding="utf-8")
    text = changed(text, changes)
    params = folder / "params.yaml"
    params.write_text(text, encoding="utf-8")
    before = {name: world.artifact(name) / "manifest.json" for name in ("shards",)}
    whole = before["shards"].read_bytes()
    told = world.run("shard", "--params", str(params))
    assert before["shards"].read_bytes() == whole
    return told.replace(f"{folder}/", "")


def source_is(value: str) -> Outcome:
    """`shard.source` with this value."""
    return lambda field, folder: stage(field.world(), folder, source=value, kind="auto")


def unserved(images: list[str], texts: Mapping[str, str], **changes: str) -> Outcome:
    """A condition on data that lacks it, told before anything is made."""

    def outcome(field: Field, folder: Path) -> str:
        source = lay(folder / "data", images, texts)
        return stage(field.world(), folder, source=str(source), **changes)

    return outcome


def named_file(field: Field, folder: Path) -> str:
    """A run by hand whose message names skipped.jsonl: read when the run has ended."""
    from workflow import running

    world, said = field.world(), list[str]()
    source = lay(
        folder / "data", [f"{number}.png" for number in range(6)], {"torn.png": encoded(picture(9))[:60]}
    )
    options = ("--out", str(folder / "out"), "--set", "shard.kind=folder", "--set", f"shard.source={source}",
               "--set", "shard.max_bad_fraction=0.5", "--set", "shard.val_fraction=0.5")  # fmt: skip
    whole = running.say
    running.say = said.append  # type: ignore[assignment]
    try:
        told = world.run("shard", *options)
    finally:
        running.say = whole
    line = next(line for line in said if "skipped 1 of 7" in line)
    rows = Path(line.rpartition("see ")[2]).read_text(encoding="utf-8").splitlines()
    return f"{told}; {line.partition('see ')[0]}the file named has {len(rows)} line"


def coco(folder: str = "", more: Mapping[str, object] = {}) -> Outcome:
    """COCO in small: two captioned images in train2017, one in val2017, one that no file lists."""

    def outcome(field: Field, path: Path) -> str:
        splits = {"train2017": (1, 2), "val2017": (3,)}
        texts = {
            f"annotations/captions_{split}.json": json.dumps({
                "images": [{"id": n, "file_name": f"{n:012d}.jpg"} for n in numbers],
                "annotations": [{"image_id": n, "caption": text} for n in numbers for text in (f"a cat {n}", "a pet")],
            })
            for split, numbers in splits.items()
        } | {name: json.dumps(value) for name, value in more.items()}  # fmt: skip
        images = [
            f"{folder}{split}/{n:012d}.jpg"
            for split, numbers in splits.items()
            for n in (*numbers, 10 + numbers[0])
        ]
        return taken(path, images, texts)

    return outcome


def trained(texts: Mapping[str, str], images: list[str] | None = None, **changes: str) -> Outcome:
    """Shard, both trainings and samples of a source, at the smallest size: what the samples were asked for by."""

    def outcome(field: Field, folder: Path) -> str:
        root = folder / "world"
        shutil.copytree(field.world().root, root, ignore=shutil.ignore_patterns(".runs"))
        source = lay(folder / "data", images or TRAINED, texts)
        text = changed(
            (root / "params.yaml").read_text(encoding="utf-8"),
            {"kind": "auto", "source": str(source)} | changes,
        )
        (root / "params.yaml").write_text(text, encoding="utf-8")
        for name in ("shard", "train_mqvae", "tokenize", "train_stackformer", "sample"):
            told = World(root).run(name)
            if told != "done":
                return f"{name}: {told}"
        facts = json.loads((root / "artifacts" / "samples" / "manifest.json").read_text())["facts"]
        asked = facts["settings"]["prompts"] if facts["condition"] == "text" else facts["classes"]
        return f"sampled by {facts['condition']}: {', '.join(asked)}"

    return outcome


TRAINED = [
    *some("train/cat", 20),
    *some("train/dog", 20),
    *some("val/cat", 9),
    *some("val/unicorn", 2),
    *some("test/cat", 3),
]
STYLEGAN = [f"0000{number // 1000}/img0000{number:04d}.png" for number in (0, 1, 1000, 1001)]
TEXT = {"condition": "text", "text_vocab": "300", "text_length": "8", "prompts": "[a cat]", "classes": "all"}
LABELS = {"dataset.json": json.dumps({"labels": [[name, 6 * (n % 2)] for n, name in enumerate(STYLEGAN)]})}

ROWS: tuple[Row, ...] = (
    Row("StyleGAN's zip", AREA, "dataset.json and numbered folders, stored", "metadata: 0 1+1, 6 1+1; seen 4 = 2 train + 2 val",
        from_zip(zipped(STYLEGAN, LABELS))),
    Row("a zip of class folders", AREA, "packed (deflated), in a folder of its own, with a Mac's leftovers",
        "class_folder: cat 1+1, dog 1+1; seen 4 = 2 train + 2 val + 0 skipped; 1 passed over: 1 in the system folder __MACOSX",
        from_zip(zipped([f"pets/{name}" for name in PETS], {"__MACOSX/pets/cat/._a.png": "x"}, zipfile.ZIP_DEFLATED))),
    Row("half a zip", AREA, "cut in the middle", "is not a complete zip (File is not a zip file): fetch it again",
        bad_zip(zipped(PETS)[:400])),
    Row("a zip that names files outside", AREA, "../../cat.png", "lists '../../cat.png', which is outside it: refused",
        bad_zip(zipped(["../../cat.png"]))),
    Row("a list of paths", AREA, "list.txt beside cat/, dog/: a path a line", "class_folder: cat 1+1, dog 1+1; seen 4",
        listed(lambda folder: "".join(f"{name}\n" for name in PETS))),
    Row("a list of whole paths", AREA, "as find prints them", "class_folder: cat 1+1, dog 1+1; seen 4",
        listed(lambda folder: "".join(f"{folder}/data/{name}\n" for name in PETS), inside=False)),
    Row("a list relative to the present folder", AREA, "data/cat/… in data/list.txt", "class_folder: cat 1+1, dog 1+1; seen 4",
        listed(lambda folder: "".join(f"data/{name}\n" for name in PETS))),
    Row("a list with labels", AREA, "path and number, as Caffe's train.txt; kind metadata", "metadata: 0 1+1, 1 1+1; seen 4",
        listed(lambda folder: "".join(f"{name} {n % 2}\n" for n, name in enumerate(PETS)), kind="metadata")),
    Row("a list with a name that is gone", AREA, "one of five paths has no file", "seen 5 = 2 train + 2 val + 1 skipped",
        listed(lambda folder: "".join(f"{name}\n" for name in [*PETS, "cat/gone.png"]), kind="folder")),
    Row("a text that is not a list", AREA, "notes.txt",
        "notes.txt is a file and no list of images: no column of it holds paths", no_list),
    Row("a .tar.gz under a kind that reads folders", AREA, "class folders in data.tar.gz",
        "data.tar.gz is a tar: WebDataset's samples are read by shard.kind webdataset, other tars once unpacked: `mkdir",
        tar_file),
    Row("a folder or glob of tars under auto", AREA, "00000.tar, 00001.tar", "webdataset: True, True, not False", tars_taken),
    Row("an empty source", AREA, "shard.source: ''",
        "shard.source is empty; expected a folder of images, a list, a zip, or tars", source_is("''")),
    Row("the repository itself as source", AREA, "shard.source: .",
        "shard.source . contains this repository; expected a folder", source_is(".")),
    Row("a folder above it", AREA, "shard.source: ..", "shard.source .. contains this repository", source_is("'..'")),
    Row("a folder with nothing but a zip in it", AREA, "data/images.zip",
        "holds no images, only images.zip: unpack it, or name it, shard.source: data/images.zip",
        lambda field, folder: turned_away(folder, [], {"images.zip": "x"})),
    Row("COCO", AREA, "annotations/, train2017/, val2017/, two images that no file lists",
        "coco: no classes; 3 captioned (a cat 1 | a cat 2 | a cat 3 | a pet); seen 3 = 2 train + 1 val + 0 skipped; "
        "2 passed over: 2 in no captions file", coco()),
    Row("COCO's images in a folder of their own", AREA, "images/train2017/, images/val2017/",
        "coco: no classes; 3 captioned", coco("images/")),
    Row("COCO with captions of its test split", AREA, "annotations/captions_test2017.json",
        "test2017/ (0 images) is kept apart",
        coco(more={"annotations/captions_test2017.json": {"images": [], "annotations": []}})),
    Row("a class asked for, and the layout has none", AREA, "condition: class, kind: folder",
        "stackformer.condition is class, and shard.kind folder has no classes; expected none, or a source with classes",
        unserved(some("", 4), {}, kind="folder", condition="class")),
    Row("captions asked for, and the layout has none", AREA, "condition: text, kind: class_folder",
        "stackformer.condition is text, and shard.kind class_folder has no captions; expected none or class",
        unserved(PETS, {}, kind="class_folder", **TEXT)),
    Row("a class asked for, and the tables have none", AREA, "condition: class, kind: metadata with captions alone",
        "has no classes; expected none or text, or a source with classes",
        unserved(some("", 2), {"image_000.txt": "a cat", "image_001.txt": "a dog"}, kind="metadata", condition="class")),
    Row("captions asked for, and the tables have splits alone", AREA, "condition: text, kind: class_folder, tables: [test.txt]",
        "has no captions; expected none or class, or a source with captions",
        unserved(PETS, {"test.txt": "cat/cat_001.png\n"}, kind="class_folder", tables="[test.txt]", **TEXT)),
    Row("captions asked for, and auto finds none", AREA, "condition: text, kind: auto on class folders",
        "has no captions; expected none or class, or a source with captions",
        unserved(PETS, {}, kind="auto", **TEXT)),
    Row("a message that names skipped.jsonl", AREA, "a run by hand, whose run folder is gone at its end",
        "done; [shard] skipped 1 of 7 images (14.3%): 1 truncated; the file named has 1 line", named_file),
    Row("a class without training images, and a test split, through both trainings", AREA,
        "train/{cat,dog}, val/{cat,unicorn}, test/cat; kind auto, condition class", "sampled by class: cat, dog",
        trained({}, condition="class")),
    Row("labels and a test list beside one folder, through both trainings", AREA,
        "labels.csv, test.txt; kind auto, condition class; 40 images, 6 of them for tests", "sampled by class: k0, k1",
        trained({"labels.csv": "file,label\n" + "".join(f"{n:03d}.png,k{n % 2}\n" for n in range(40)),
                 "test.txt": "".join(f"{n:03d}.png\n" for n in range(6))}, [f"{n:03d}.png" for n in range(40)],
                condition="class", val_fraction="0.3")),
    Row("class folders with texts beside the images, through both trainings", AREA,
        "kind auto takes both; condition text", "sampled by text: a cat",
        trained({f"{name.removesuffix('.png')}.txt": f"a {name.split('/')[1]}" for name in TRAINED}, **TEXT)),
)  # fmt: skip
