"""WebDataset tars as a source: keys, members, splits, labels, captions; every sample is counted."""

import bz2
import gzip
import io
import json
import lzma
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from shards.inspect import Asked, inspected
from shards.layouts.reading import Reading
from tests.field.counting import Sharded, refused, sharded
from tests.field.place import picture_bytes, write
from tests.field.table import Field, Row
from tests.tiny import copy_of_the_repository
from tests.typed import typed
from workspace.exact.manifest import read_json

AREA = "tars as a source"
Outcome = Any


def tar(path: Path, members: Mapping[str, bytes]) -> Path:
    """A plain tar of these members, in order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as file:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return path


def jpg(number: int) -> bytes:
    """A picture."""
    return picture_bytes(number, "jpeg", quality=90)


def samples(count: int, first: int = 0, **members: str) -> dict[str, bytes]:
    """`count` samples with a jpg and members of these texts."""
    found = {}
    for number in range(first, first + count):
        found[f"{number:05d}.jpg"] = jpg(number)
        found |= {
            f"{number:05d}.{name}": text.format(n=number % 2).encode() for name, text in members.items()
        }
    return found


def told(made: Sharded) -> str:
    """Counts, classes and the first captions."""
    facts = made.shards.facts
    captions = sorted({text for sample in made.samples() for text in sample.captions})
    return f"{made.told()}; classes {facts.classes}; captions {captions[:2]}"


def of(members: Mapping[str, bytes], source: str = "data.tar", **changes: Any) -> Outcome:
    """Shard one tar of these members."""

    def outcome(field: Field, folder: Path) -> str:
        tar(folder / "data.tar", members)
        return told(sharded(folder / source, folder / "run", kind="webdataset", **changes))

    return outcome


def split_names(field: Field, folder: Path) -> str:
    tar(folder / "t" / "train-000.tar", samples(4))
    tar(folder / "t" / "val-000.tar", samples(2, first=10))
    tar(folder / "t" / "test-000.tar", samples(3, first=20))
    return told(sharded(folder / "t", folder / "run", kind="webdataset"))


def split_folders(field: Field, folder: Path) -> str:
    tar(folder / "t" / "training" / "00.tar", samples(4))
    tar(folder / "t" / "validation" / "00.tar", samples(2, first=10))
    return told(sharded(folder / "t", folder / "run", kind="webdataset"))


def braces(field: Field, folder: Path) -> str:
    for number in range(3):
        tar(folder / f"{number:03d}.tar", samples(2, first=10 * number))
    some = sharded(folder / "{000..001}.tar", folder / "run", kind="webdataset").counts["seen"]
    every = sharded(folder / "*.tar", folder / "run2", kind="webdataset").counts["seen"]
    missing = refused(folder / "{000..004}.tar", folder / "run3", kind="webdataset")
    return f"{some} of {every}; {missing[-120:]}"


def packed(field: Field, folder: Path) -> str:
    plain = tar(folder / "a.tar", samples(4)).read_bytes()
    (folder / "a.tar").unlink()
    write(folder / "t" / "a.tar.gz", gzip.compress(plain))
    return told(sharded(folder / "t", folder / "run", kind="webdataset"))


def packed_torn(field: Field, folder: Path) -> str:
    plain = tar(folder / "a.tar", samples(4)).read_bytes()
    write(folder / "t" / "a.tar.gz", gzip.compress(plain)[:-400])
    return refused(folder / "t", folder / "run", kind="webdataset")


def names_beside(field: Field, folder: Path) -> str:
    tar(folder / "t" / "0.tar", samples(4, cls="{n}"))
    write(folder / "t" / "classnames.txt", b"tench\ngoldfish\n")
    return told(sharded(folder / "t", folder / "run", kind="webdataset"))


def img2dataset(field: Field, folder: Path) -> str:
    """Its samples: jpg, txt, and a json with url, caption, sizes, status."""
    facts = json.dumps(
        {"url": "https://example.invalid/1.jpg", "caption": "a red bird", "status": "success", "width": 12}
    )
    members = {}
    for number in range(4):
        members |= {f"{number:09d}.jpg": jpg(number), f"{number:09d}.json": facts.encode()}
    tar(folder / "t" / "00000.tar", members)
    return told(sharded(folder / "t", folder / "run", kind="auto"))


def label_map(field: Field, folder: Path) -> str:
    """The segmentation map stands before the photograph in the tar."""
    members = {}
    for number in range(4):
        members |= {f"{number}.png": picture_bytes(50), f"{number}.jpg": jpg(number)}
    tar(folder / "data.tar", members)
    made = sharded(folder / "data.tar", folder / "run", kind="webdataset")
    sources = {
        row.source.rpartition(".")[2] for split in ("train", "val") for row in made.shards.index(split).rows()
    }
    return f"{made.told()}; images are {sorted(sources)}"


def mask_said(field: Field, folder: Path) -> str:
    members = {}
    for number in range(4):
        members |= {f"{number}.seg.png": picture_bytes(50), f"{number}.jpg": jpg(number)}
    tar(folder / "data.tar", members)
    made = sharded(folder / "data.tar", folder / "run", kind="webdataset")
    return f"{made.told()}; masks {made.shards.facts.masks}"


def under_dvc(field: Field, folder: Path) -> str:
    """A folder and a pattern under `dvc repro`: images seen at first, after a tar that matches came, after one that does not."""
    root = copy_of_the_repository(folder / "repository")
    params = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
    params["shard"] |= {
        "kind": "webdataset",
        "source": "data/mine",
        "tars": "{train,val}-*.tar",
        "max_bad_fraction": 1.0,
    }
    params["shard"]["image_size"] = params["mqvae"]["model"]["image_size"] = 8
    (root / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    found = []
    for number, name in enumerate(("train-000.tar", "val-000.tar", "train-001.tar", "other.tar")):
        tar(root / "data" / "mine" / name, samples(4, first=10 * number, cls="{n}"))
        if number:
            said = typed(root, "dvc", "repro", "-s", "shard")
            counts = read_json(root / "metrics" / "shard" / "metrics.json")
            found.append(f"{counts['seen']}{' published again' if 'publishing it again' in said else ''}")
    return f"seen {', then '.join(found)}; then {typed(root, 'dvc', 'status', 'shard').splitlines()[-1]}"


def choosing(field: Field, folder: Path) -> str:
    """The same set by a folder and a pattern, and by a glob: names are relative to the folder whatever matches."""
    for name in ("train/000.tar", "train/001.tar", "val/000.tar"):
        tar(folder / "t" / name, samples(2, first=10 * len(name) + int(name[-5]), cls="{n}"))
    write(folder / "t" / "classnames.txt", b"tench\ngoldfish\n")
    some = sharded(folder / "t", folder / "run", kind="auto", tars="{train,val}/000.tar")
    one = sharded(folder / "t", folder / "run2", kind="auto", tars="train/*.tar")
    sources = sorted(
        {
            row.source.rpartition("/")[0]
            for split in ("train", "val")
            for row in one.shards.index(split).rows()
        }
    )
    return (
        f"{told(some)}; one split: {one.counts['seen']} of {', '.join(sources)}, {one.shards.facts.classes}"
    )


def unfit(source: str, **changes: Any) -> Outcome:
    """The line in which a pattern that does not fit is refused."""

    def outcome(field: Field, folder: Path) -> str:
        tar(folder / "t" / "0.tar", samples(4))
        return refused(folder / source, folder / "run", **changes)

    return outcome


def pasted(field: Field, folder: Path) -> str:
    """`inspect` on a glob: the lines for params.yaml name the folder, which DVC watches."""
    for number in range(3):
        tar(folder / "a" / "b" / f"{number:03d}.tar", samples(2, first=10 * number))
    lines = inspected(Asked(f"{folder}/a/*/{{000..001}}.tar"))
    return " ".join(line.strip().replace(f"{folder}/", "") for line in lines[lines.index("shard:") :])


def deep(field: Field, folder: Path) -> str:
    for name in ("t/a.tar", "t/b/c.tar", "t/d/e/f.tar"):
        tar(folder / name, samples(2, first=10 * len(name)))
    write(folder / "t" / "00000_stats.json", b"{}")
    (folder / "t" / "folder.tar").mkdir()
    seen = [
        sharded(folder / "t" / name, folder / str(n), kind="webdataset").counts["seen"]
        for n, name in enumerate(("**/*.tar", "*", ""))
    ]
    return f"**/*.tar {seen[0]}, * {seen[1]}, the folder {seen[2]}"


def set_names(field: Field, folder: Path) -> str:
    """Tars whose names share a word."""
    for number, name in enumerate(("train-0000", "train-0001", "validation-0000")):
        tar(folder / "t" / f"imagenet1k-{name}.tar", samples(2, first=10 * number))
    return told(sharded(folder / "t", folder / "run", kind="auto"))


def inside(*folders: str, **changes: Any) -> Outcome:
    """Two samples in each of these folders of one tar."""
    members = {
        f"{folder}/{n}.jpg": jpg(2 * place + n) for place, folder in enumerate(folders) for n in range(2)
    }
    return lambda field, folder: noted(tar(folder / "data.tar", members), folder, **changes)


def noted(source: Path, folder: Path, **changes: Any) -> str:
    """What `shard` makes of a tar, and what `inspect` notes."""
    reading = Reading(changes.get("roles", {}), None, changes.get("columns", {}))
    notes = [line for line in inspected(Asked(str(source), reading=reading)) if line.startswith("note: ")]
    return f"{told(sharded(source, folder / 'run', kind='auto', **changes))}; {' '.join(notes)}"


def repacked(field: Field, folder: Path) -> str:
    for name, pack in (("a.tar.bz2", bz2.compress), ("b.tar.xz", lzma.compress)):
        plain = tar(folder / "plain.tar", samples(4, first=ord(name[0])))
        write(folder / "t" / name, pack(plain.read_bytes()))
    return told(sharded(folder / "t", folder / "run", kind="auto"))


def in_form(form: int) -> Outcome:
    """Long names in a tar of this form, with entries for folders."""

    def outcome(field: Field, folder: Path) -> str:
        with tarfile.open(folder / "data.tar", "w", format=form) as file:
            for number in range(4):
                info = tarfile.TarInfo(f"./{'b' * 150}/é{number}.jpg")
                info.size = len(jpg(number))
                file.addfile(info, io.BytesIO(jpg(number)))
            folders = tarfile.TarInfo("./" + "b" * 150)
            folders.type = tarfile.DIRTYPE
            file.addfile(folders)
        return told(sharded(folder / "data.tar", folder / "run", kind="auto"))

    return outcome


def damaged_json(field: Field, folder: Path) -> str:
    members = samples(4, json='{{"caption": "a cat"}}') | {"00002.json": b"{"}
    return refused(tar(folder / "data.tar", members), folder / "run", kind="auto")


MAC = (
    {f"cat/{n}.jpg": jpg(n) for n in range(4)}
    | {f"cat/._{n}.jpg": b"\0\5\26\7" for n in range(4)}
    | {"__MACOSX/cat/._1.jpg": b"x", ".DS_Store": b"x"}
)
DOTTED = {"20.05.jpg": jpg(1), "20.05.cls": b"0", "20.06.jpg": jpg(2), "20.06.cls": b"1", "a/b.c/7.jpg": jpg(3), "a/b.c/7.cls": b"0", "x.jpg": jpg(4), "x.cls": b"1"}  # fmt: skip
ROWS: tuple[Row, ...] = (
    Row("keys with dots are lost", AREA, "20.05.jpg with 20.05.cls, 20.06.jpg, a/b.c/7.jpg", "seen 4 =", of(DOTTED)),
    Row("names with several dots that differ before the last", AREA, "dr.smith.jpg, dr.jones.jpg, v1.2.3.jpg, v1.2.4.jpg", "seen 4 =", of({f"{name}.jpg": jpg(n) for n, name in enumerate(("dr.smith", "dr.jones", "v1.2.3", "v1.2.4"))})),
    Row("samples without an image go uncounted", AREA, "4 samples, 2 more with a txt alone", "2 passed over", of(samples(4) | {"a.txt": b"x", "b.txt": b"y"})),
    Row("a label map before the photograph becomes the image", AREA, "N.png, then N.jpg", "0 skipped; 0 passed over; images are ['jpg']", label_map),
    Row("a segmentation beside the photograph", AREA, "N.seg.png, N.jpg", "masks True", mask_said),
    Row("train- and val- tars are mixed", AREA, "train-000, val-000, test-000.tar in a folder", "4 train + 2 val + 0 skipped; 3 passed over", split_names),
    Row("tars in split folders", AREA, "training/00.tar, validation/00.tar", "4 train + 2 val", split_folders),
    Row("braces and globs of tars", AREA, "{000..001}.tar, *.tar, and braces that name what is not there", "4 of 6;", braces),
    Row("braces that name a tar which is not there", AREA, "{000..004}.tar of three", "does not exist (and 1 others)", braces),
    Row("tars that match a pattern, under dvc repro", AREA, "source: a folder, tars: '{train,val}-*.tar'; a tar that matches is added, then one that does not", "seen 8, then 12, then 12 published again; then Data and pipelines are up to date.", under_dvc),
    Row("a folder of tars, of which some are wanted", AREA, "shard.tars: '{train,val}/000.tar', 'train/*.tar'; classnames.txt above", "seen 4 = 2 train + 2 val + 0 skipped; 0 passed over; classes ('tench', 'goldfish'); captions []; one split: 4 of train/000.tar, train/001.tar, ('tench', 'goldfish')", choosing),
    Row("a glob that DVC would not watch", AREA, "python -m shards.inspect 'a/*/{000..001}.tar'", "shard: kind: webdataset source: a tars: '*/{000..001}.tar'", pasted),
    Row("a pattern of tars for a kind that reads none", AREA, "shard.tars with kind folder", "shard.tars is *.tar, and shard.kind folder reads no tars; expected webdataset, or null", unfit("t", kind="folder", tars="*.tar")),
    Row("a pattern of tars below what is not a folder", AREA, "shard.source: t/0.tar, shard.tars: '*.tar'", "which chooses from a folder of tars, and shard.source t/0.tar is not a folder", unfit("t/0.tar", kind="auto", tars="*.tar")),
    Row("a pattern that leads out of the folder", AREA, "shard.tars: '../*.tar'", "shard.tars is ../*.tar; expected a pattern below the folder shard.source", unfit("t", kind="auto", tars="../*.tar")),
    Row("a pattern that nothing matches", AREA, "shard.tars: 'train-*.tar'", "shard.tars train-*.tar matches no file: t/train-*.tar does not exist", unfit("t", kind="auto", tars="train-*.tar")),
    Row("globs over several levels, and over more than tars", AREA, "**/*.tar; * beside a json and a folder called folder.tar", "**/*.tar 6, * 2, the folder 6", deep),
    Row("tars whose names begin with the set's", AREA, "imagenet1k-train-0000.tar, imagenet1k-validation-0000.tar", "seen 6 = 4 train + 2 val", set_names),
    Row("splits within a tar", AREA, "train/cat/0.jpg, test/cat/0.jpg … in one tar", "seen 4 = 2 train + 2 val + 0 skipped; 2 passed over; ", inside("train/cat", "val/cat", "test/cat")),
    Row("class folders within a tar", AREA, "cat/0.jpg, dog/0.jpg", "note: keys are in folders (cat, dog): shard.columns: {label: folder} makes them classes", inside("cat", "dog")),
    Row("splits and class folders within a tar", AREA, "train/cat, train/dog, val/cat; shard.columns: {label: folder}", "seen 6 = 4 train + 2 val + 0 skipped; 0 passed over; classes ('cat', 'dog')", inside("train/cat", "train/dog", "val/cat", columns={"label": "folder"})),
    Row("a folder named like a split beside others within a tar", AREA, "cat/, dog/, test/", "test/ is named like a split, and beside it are cat/, dog/", lambda field, folder: refused(tar(folder / "data.tar", {f"{name}/0.jpg": jpg(n) for n, name in enumerate(("cat", "dog", "test"))}), folder / "run", kind="auto")),
    Row("a Mac's leftovers within a tar", AREA, "cat/._0.jpg, __MACOSX/, .DS_Store", "seen 4 = 1 train + 3 val + 0 skipped; 6 passed over", of(MAC)),
    Row("tars packed by bzip2 and xz", AREA, "a.tar.bz2, b.tar.xz", "seen 8 = ", repacked),
    Row("long names, PAX", AREA, "names of 160 characters, entries for folders, ./ before names", "seen 4 = ", in_form(tarfile.PAX_FORMAT)),
    Row("long names, GNU", AREA, "the same in GNU's form", "seen 4 = ", in_form(tarfile.GNU_FORMAT)),
    Row("members without an extension", AREA, "img0, img1 …: pictures by their first bytes", "seen 4 = 1 train + 3 val + 0 skipped; 0 passed over", of({f"img{n}": jpg(n) for n in range(4)})),
    Row("two pictures for each key", AREA, "N.left.jpg, N.right.jpg", "members not read: 4 .right.jpg", lambda field, folder: noted(tar(folder / "data.tar", {f"{n}.{side}.jpg": jpg(2 * n + place) for n in range(4) for place, side in enumerate(("left", "right"))}), folder)),
    Row("captions that the first sample lacks", AREA, "json: {} first, then {caption}", "captions ['a cat']", of(samples(4, json='{{"caption": "a cat"}}') | {"00000.json": b"{}"})),
    Row("one damaged json of many", AREA, "00002.json: {", "data.tar: 00002.json is not JSON", damaged_json),
    Row("captions in a tar that are not UTF-8", AREA, "txt in Windows-1252", "captions ['déjà vu']", of(samples(4) | {f"{n:05d}.txt": "déjà vu".encode("cp1252") for n in range(4)})),
    Row("a caption deep in the json", AREA, "{meta: {caption}}; shard.columns: {caption: json.meta.caption}", "captions ['a cat']", of(samples(4, json='{{"meta": {{"caption": "a cat"}}}}'), columns={"caption": "json.meta.caption"})),
    Row("a field that no json has", AREA, "shard.columns: {caption: json.prompt}", "{caption: json.prompt}: no json has this field; fields are caption", lambda field, folder: refused(tar(folder / "data.tar", samples(4, json='{{"caption": "a cat"}}')), folder / "run", kind="auto", columns={"caption": "json.prompt"})),
    Row("a role for what no tar is called", AREA, "shard.roles: {tst: val}", "shard.roles names tst, which shard.source data.tar does not have", lambda field, folder: refused(tar(folder / "data.tar", samples(4)), folder / "run", kind="auto", roles={"tst": "val"})),
    Row("tars of a validation set alone", AREA, "val-000.tar", "the split train of shard.source would be empty: of 4 images, shard.val_fraction is 0.5; say what is for training, shard.roles: {val: train}", lambda field, folder: refused(tar(folder / "val-000.tar", samples(4)), folder / "run", kind="auto")),
    Row("labels that became fractions", AREA, "cls: 0.0, 1.0", "classes ('0000', '0001')", of(samples(4, cls="{n}.0"))),
    Row("a packed tar", AREA, "a.tar.gz in a folder", "seen 4 =", packed),
    Row("a packed tar that is torn", AREA, "a.tar.gz without its last bytes", "is truncated or damaged", packed_torn),
    Row("labels that are texts", AREA, "cls: cat, dog", "classes ('kind 0', 'kind 1')", of(samples(4, cls="kind {n}"))),
    Row("labels that are numbers, names in a file", AREA, "cls 0 and 1, classnames.txt", "classes ('tench', 'goldfish')", names_beside),
    Row("captions of img2dataset", AREA, "jpg and json with caption", "captions ['a red bird']", img2dataset),
    Row("a caption field of another name", AREA, "json with `prompt`; shard.columns: {caption: json.prompt}", "captions ['a blue 0', 'a blue 1']", of(samples(4, json='{{"prompt": "a blue {n}"}}'), columns={"caption": "json.prompt"})),
    Row("labels in the json", AREA, "json with label", "classes ('bird 0', 'bird 1')", of(samples(4, json='{{"label": "bird {n}"}}'))),
    Row("labels by the folder that a key is in", AREA, "cat/1.jpg, dog/1.jpg; shard.columns: {label: folder}", "classes ('cat', 'dog')", of({f"{c}/{n}.jpg": jpg(n + 9 * len(c[0]) + (50 if c == 'cat' else 0)) for c in ("cat", "dog") for n in range(3)}, columns={"label": "folder"})),
    Row("a label is there for some samples alone", AREA, "4 samples with cls, 2 without", "4 of 6 samples have a .cls or other label; expected all or none", lambda field, folder: refused(tar(folder / "data.tar", samples(4, cls="{n}") | samples(2, first=10)), folder / "run", kind="webdataset")),
    Row("a member that the user names is in no sample", AREA, "shard.columns: {mask: depth.png}", "{mask: depth.png}: no sample has this member; members are .jpg, .cls", lambda field, folder: refused(tar(folder / "data.tar", samples(4, cls="{n}")), folder / "run", kind="webdataset", columns={"mask": "depth.png"})),
    Row("images of other formats in a tar", AREA, "tif, webp, jpe", "seen 6 =", of({f"{n}.{e}": picture_bytes(n, f) for n, (e, f) in enumerate([("tif", "tiff"), ("webp", "webp"), ("jpe", "jpeg"), ("bmp", "bmp"), ("jp2", "jpeg2000"), ("avif", "avif")])})),
)  # fmt: skip
