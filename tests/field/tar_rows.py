"""WebDataset tars as a source: keys, members, splits, labels, captions; every sample is counted."""

import gzip
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.field.counting import Sharded, refused, sharded
from tests.field.place import picture_bytes, write
from tests.field.table import Field, Row

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
    return told(sharded(folder / "t", folder / "run", kind="webdataset"))


def label_map(field: Field, folder: Path) -> str:
    """The segmentation map stands before the photograph in the tar."""
    members = {}
    for number in range(4):
        members |= {f"{number}.png": picture_bytes(50), f"{number}.jpg": jpg(number)}
    tar(folder / "data.tar", members)
    made = sharded(folder / "data.tar", folder / "run", kind="webdataset")
    sources = {
        row.source.rpartition(".")[2] for split in ("train", "val") for row in made.shards.index(split).rows
    }
    return f"{made.told()}; images are {sorted(sources)}"


def mask_said(field: Field, folder: Path) -> str:
    members = {}
    for number in range(4):
        members |= {f"{number}.seg.png": picture_bytes(50), f"{number}.jpg": jpg(number)}
    tar(folder / "data.tar", members)
    made = sharded(folder / "data.tar", folder / "run", kind="webdataset")
    return f"{made.told()}; masks {made.shards.facts.masks}"


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
    Row("braces that name a tar which is not there", AREA, "{000..004}.tar of three", "is not there (and 1 others)", braces),
    Row("a packed tar", AREA, "a.tar.gz in a folder", "seen 4 =", packed),
    Row("a packed tar that is torn", AREA, "a.tar.gz without its last bytes", "is truncated or damaged", packed_torn),
    Row("labels that are texts", AREA, "cls: cat, dog", "classes ('kind 0', 'kind 1')", of(samples(4, cls="kind {n}"))),
    Row("labels that are numbers, names in a file", AREA, "cls 0 and 1, classnames.txt", "classes ('tench', 'goldfish')", names_beside),
    Row("captions of img2dataset", AREA, "jpg and json with caption", "captions ['a red bird']", img2dataset),
    Row("a caption field of another name", AREA, "json with `prompt`; shard.columns: {caption: json.prompt}", "captions ['a blue 0', 'a blue 1']", of(samples(4, json='{{"prompt": "a blue {n}"}}'), columns={"caption": "json.prompt"})),
    Row("labels in the json", AREA, "json with label", "classes ('bird 0', 'bird 1')", of(samples(4, json='{{"label": "bird {n}"}}'))),
    Row("labels by the folder in which a key lies", AREA, "cat/1.jpg, dog/1.jpg; shard.columns: {label: folder}", "classes ('cat', 'dog')", of({f"{c}/{n}.jpg": jpg(n + 9 * len(c[0]) + (50 if c == 'cat' else 0)) for c in ("cat", "dog") for n in range(3)}, columns={"label": "folder"})),
    Row("a label is there for some samples alone", AREA, "4 samples with cls, 2 without", "4 of 6 samples have a .cls or other label; expected all or none", lambda field, folder: refused(tar(folder / "data.tar", samples(4, cls="{n}") | samples(2, first=10)), folder / "run", kind="webdataset")),
    Row("a member that the user names is in no sample", AREA, "shard.columns: {mask: depth.png}", "{mask: depth.png} is a member of no sample; members are .jpg, .cls", lambda field, folder: refused(tar(folder / "data.tar", samples(4, cls="{n}")), folder / "run", kind="webdataset", columns={"mask": "depth.png"})),
    Row("images of other formats in a tar", AREA, "tif, webp, jpe", "seen 6 =", of({f"{n}.{e}": picture_bytes(n, f) for n, (e, f) in enumerate([("tif", "tiff"), ("webp", "webp"), ("jpe", "jpeg"), ("bmp", "bmp"), ("jp2", "jpeg2000"), ("avif", "avif")])})),
)  # fmt: skip
