"""Captions of every kind, in COCO's form, and files that only look like it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shards.images import ImageShards
from tests.hostile.images import settings, sharded
from tests.hostile.pictures import PNG
from tests.hostile.table import Case, World, fresh
from workspace.exact.manifest import read_json

RTL, EMOJI = "חתול יושב על שטיח", "a cat 🐈‍⬛ on a mat 👩🏽‍🚀"


def coco(folder: Path, annotations: object, images: object = None) -> Path:
    """Eight pictures in COCO's layout; the first has the id 1."""
    source = fresh(folder / "source")
    (source / "annotations").mkdir()
    (source / "train2017").mkdir()
    for number in range(1, 9):
        (source / "train2017" / f"{number}.png").write_bytes(PNG)
    listed = [{"id": number, "file_name": f"{number}.png", "license": 4} for number in range(1, 9)]
    value = {"info": {}, "images": listed if images is None else images, "annotations": annotations}
    text = annotations if isinstance(annotations, str) else json.dumps(value)
    (source / "annotations" / "captions_train2017.json").write_text(
        text, encoding="utf-8", errors="surrogatepass"
    )
    (source / "annotations" / "captions_val2017.json").write_text(
        json.dumps({"images": [{"id": 1, "file_name": "v.png"}], "annotations": []}), encoding="utf-8"
    )
    (source / "val2017").mkdir()
    (source / "val2017" / "v.png").write_bytes(PNG)
    return source


def of_one(captions: list[Any], shown: int = 60) -> Callable[[World, Path], str]:
    """What is stored of an image with these captions."""

    def one(world: World, folder: Path) -> str:
        source = coco(folder, [{"image_id": 1, "id": 7, "caption": text} for text in captions])
        made = sharded(folder / "run", settings(source, kind="coco"))
        counted = read_json(made.metrics / "metrics.json")
        assert counted["seen"] == 9 and counted["skipped"] == 0
        index = ImageShards.open(made.out).index("train")
        row = next(number for number, row in enumerate(index.rows()) if row.source == "train2017/1.png")
        stored = index.read(row).captions
        texts = " | ".join(text if len(text) <= shown else f"{len(text):,} characters" for text in stored)
        return f"{len(stored)} stored: {texts}"

    return one


def of_file(annotations: object, images: object = None) -> Callable[[World, Path], str]:
    """What is said of a file of captions."""

    def one(world: World, folder: Path) -> str:
        source = coco(folder, annotations, images)
        return world.told(lambda: sharded(folder / "run", settings(source, kind="coco")))

    return one


def stray(world: World, folder: Path) -> str:
    """A caption whose image is not listed."""
    source = coco(folder, [{"image_id": 99, "caption": "of nothing"}, {"image_id": 1, "caption": "a cat"}])
    counted = read_json(sharded(folder / "run", settings(source, kind="coco")).metrics / "metrics.json")
    return f"{counted['train'] + counted['val']} of {counted['seen']} kept"


def cases() -> list[Case]:
    """Every caption."""
    group, one = "captions", {"image_id": 1, "caption": "a cat"}
    return [
        Case("no caption", group, "an image that no annotation names", "0 stored: ", of_one([])),
        Case("empty captions", group, "'', spaces, a tab", "0 stored: ", of_one(["", "   ", "\t\n"])),
        Case("a caption of 100 kB", group, "20,000 words", "1 stored: 99,999 characters", of_one(["word " * 20000])),
        Case("right-to-left", group, "Hebrew", f"1 stored: {RTL}", of_one([RTL])),
        Case("emoji", group, "joined and coloured ones", f"1 stored: {EMOJI}", of_one([EMOJI])),
        Case("control characters", group, "NUL, bell, escape, C1", "1 stored: a b c d", of_one(["a\0b\x07\x1bc\x9bd"])),
        Case("line ends inside", group, "\\n, U+2028, U+0085, vertical tab", "1 stored: a b c d e", of_one(["a\nb\u2028c\x85d\x0be"])),
        Case("half a surrogate pair", group, "\\ud83d in JSON", "refused: ", of_one_refused()),
        Case("several per image", group, "five", "5 stored: 1 | 2 | 3 | 4 | 5", of_one([str(n) for n in range(1, 6)])),
        Case("markup", group, "<script>", "1 stored: <script>alert(1)</script>", of_one(["<script>alert(1)</script>"])),
        Case("a caption of no image", group, "image_id 99", "9 of 9 kept", stray),
        Case("an image outside of the source", group, "file_name ../../secret.png", "which is outside it: refused",
             of_file([], [{"id": 1, "file_name": "../../secret.png"}])),
        Case("an absolute file name", group, "file_name /etc/x.png", "which is outside it: refused",
             of_file([], [{"id": 1, "file_name": "/etc/x.png"}])),
        Case("a listed image that is not there", group, "file_name gone.png", "skipped 1 of",
             of_file_low([], [{"id": 1, "file_name": "gone.png"}, *({"id": n, "file_name": f"{n}.png"} for n in range(2, 9))])),
        Case("a caption that is a number", group, "caption: 5", "annotations.0: caption: Input should be a valid string",
             of_file([{"image_id": 1, "caption": 5}])),
        Case("annotations without images", group, "no images", "images: Input should be a valid array", of_file([one], 5)),
        Case("torn JSON", group, "cut in the middle", "Invalid JSON", of_file('{"images": [{"id": 1, "file')),
        Case("COCO's JSON nested 100,000 deep", group, "[[[[…", "Invalid JSON: expected {, found [", of_file("[" * 100_000)),
        Case("COCO's JSON with NaN for an id", group, "id: NaN", "refused: ", of_file('{"images": [{"id": NaN, "file_name": "1.png"}], "annotations": []}')),
    ]  # fmt: skip


def of_one_refused() -> Callable[[World, Path], str]:
    """The file of a caption that no encoding holds."""
    return of_file(
        '{"images": [{"id": 1, "file_name": "1.png"}], "annotations": [{"image_id": 1, "caption": "a \\ud83d"}]}'
    )


def of_file_low(annotations: object, images: object) -> Callable[[World, Path], str]:
    """As `of_file`, where no bad file is allowed."""

    def one(world: World, folder: Path) -> str:
        source = coco(folder, annotations, images)
        return world.told(
            lambda: sharded(folder / "run", settings(source, kind="coco", max_bad_fraction=0.0))
        )

    return one
