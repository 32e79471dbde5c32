"""Dirty images: a generator that writes each, and what `shard` must make of it."""

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from settings.shard import ShardSettings
from shards.images import ImageShards
from shards.making.sources import list_source
from stages.shard import Inputs, run
from tests.hostile.pictures import (
    BLACK_1_BIT,
    COLOURS,
    JPEG,
    NOISE,
    PNG,
    SIDE,
    animated,
    deep_png,
    half_clear,
    interlaced_png,
    picture,
    png,
    saved,
    swapped_profile,
    turned,
    ycck_jpeg,
)
from tests.hostile.table import Case, World, fresh
from workspace.exact.manifest import read_json
from workspace.runs import RunFolder
from workspace.settings import Compute

HERE = Compute(device="cpu", workers=0, threads=1, loader_workers=0, ray_address="local")
UPRIGHT = "kept: R G / B Y"


def seen(image: np.ndarray) -> str:
    """The colours of the four quarters, or the grey level where there is but one."""
    quarter = len(image) // 4
    spots = [image[row, column] for row in (quarter, -quarter) for column in (quarter, -quarter)]
    if all(np.ptp(spot) < 4 for spot in spots) and not (image > 250).all():
        return "grey " + " ".join(str(round(float(spot.mean()) / 8) * 8) for spot in spots)
    names = [
        min(COLOURS, key=lambda name: np.abs(spot - np.array(COLOURS[name], float)).sum()) for spot in spots
    ]
    return "{} {} / {} {}".format(*names)


def data(name: str, content: bytes) -> Callable[[Path], None]:
    """Writes a file of that name."""
    return lambda folder: _write(folder / name, content)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _sparse(folder: Path) -> None:
    with (folder / "x.jpg").open("wb") as file:
        file.truncate(1 << 40)


def _unreadable(folder: Path) -> None:
    _write(folder / "x.png", PNG)
    (folder / "x.png").chmod(0)


def _socket(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        os.chdir(folder)  # a socket's path is short
        made.bind("x.png")


@dataclass(frozen=True)
class Dirty:
    """A dirty file: its case's name, how it is made, what `shard` must say, and the writer."""

    name: str
    made: str
    expected: str
    write: Callable[[Path], None]


FILES = [
    Dirty("truncated JPEG", "half of a JPEG's bytes", "skipped: truncated", data("x.jpg", NOISE[: len(NOISE) // 2])),
    Dirty("truncated PNG", "a PNG without its last third", "skipped: truncated", data("x.png", PNG[: len(PNG) // 3 * 2])),
    Dirty("PNG of the right size that is torn inside", "16×16, right CRCs, half of its stream", "skipped: truncated",
          data("x.png", png([b"\0" + NOISE[row : row + 48] for row in range(16)], 16, 16, 8, 2, share=0.5))),
    Dirty("zero bytes", "an empty file", "skipped: not an image", data("x.jpg", b"")),
    Dirty("text named .jpg", "a sentence", "skipped: not an image", data("x.jpg", b"this is not an image")),
    Dirty("PNG named .jpg", "wrong extension", UPRIGHT, data("x.jpg", PNG)),
    Dirty("JPEG named .png", "wrong extension", UPRIGHT, data("x.png", JPEG)),
    Dirty("PNG with alpha", "left half transparent over black", "kept: white G / white Y", data("x.png", saved(half_clear(), "png"))),
    Dirty("PNG with a palette", "four colours", UPRIGHT, data("x.png", saved(picture().quantize(4), "png"))),
    Dirty("PNG with a transparent palette colour", "colour 0 is clear", "white",
          data("x.png", saved(picture().quantize(4), "png", transparency=0))),
    Dirty("PNG of grey with alpha", "LA, all clear", "kept: white white / white white",
          data("x.png", saved(Image.new("LA", (SIDE, SIDE), (0, 0)), "png"))),
    Dirty("PNG of 16 bits, grey", "0, 1/3, 2/3, 1 of 65535", "kept: grey 0 88 168 256", data("x.png", deep_png(False))),
    Dirty("PNG of 16 bits, colour", "by hand", UPRIGHT, data("x.png", deep_png(True))),
    Dirty("PNG interlaced", "Adam7, by hand", UPRIGHT, data("x.png", interlaced_png())),
    Dirty("PNG of one bit", "black", "kept: grey 0 0 0 0", data("x.png", saved(Image.new("1", (SIDE, SIDE)), "png"))),
    Dirty("JPEG in CMYK", "Adobe's inverted", UPRIGHT, data("x.jpg", saved(picture().convert("CMYK"), "jpeg", quality=95))),
    Dirty("JPEG in YCCK", "CMYK with Adobe transform 2", UPRIGHT, data("x.jpg", ycck_jpeg())),
    Dirty("JPEG in grey", "level 128", "kept: grey 128 128 128 128", data("x.jpg", saved(Image.new("L", (40, 40), 128), "jpeg"))),
    *(Dirty(f"EXIF orientation {n}", f"stored turned, tag {n}", UPRIGHT, data("x.jpg", turned(n))) for n in range(1, 9)),
    Dirty("animated GIF", "two frames", UPRIGHT, data("x.gif", animated("gif"))),
    Dirty("animated WebP", "two frames", UPRIGHT, data("x.webp", animated("webp"))),
    Dirty("1×1", "one grey pixel", "kept: grey 128 128 128 128", data("x.png", saved(Image.new("RGB", (1, 1), (128,) * 3), "png"))),
    Dirty("1×20000", "one column", "kept: grey 64 64 64 64", data("x.png", saved(Image.new("RGB", (1, 20000), (64,) * 3), "png"))),
    Dirty("20000×1", "one row", "kept: grey 64 64 64 64", data("x.png", saved(Image.new("RGB", (20000, 1), (64,) * 3), "png"))),
    Dirty("20000×20000 decompression bomb", "a PNG of 50 kB", "skipped: too many pixels", data("x.png", png(BLACK_1_BIT, 20000, 20000, 1, 0))),
    Dirty("ICC profile of other primaries", "red and green exchanged", "kept: G R / B Y", data("x.png", saved(picture(), "png", icc_profile=swapped_profile()))),
    Dirty("ICC profile, damaged", "noise for a profile", UPRIGHT, data("x.png", saved(picture(), "png", icc_profile=b"\x07" * 200))),
    Dirty("unicode name", "ünï ☂ 東京.png", UPRIGHT, data("ünï ☂ 東京.png", PNG)),
    Dirty("newline in the name", "a\\nb.png", UPRIGHT, data("a\nb.png", PNG)),
    Dirty("name that is not UTF-8", "caf\\xe9.png", UPRIGHT, data("caf\udce9.png", PNG)),
    Dirty("name of 255 bytes", "251 letters and .png", UPRIGHT, data("n" * 251 + ".png", PNG)),
    Dirty("quotes, dollar and backtick in the name", "$(touch x)`'\".png", UPRIGHT, data("$(touch x)`'\".png", PNG)),
    Dirty("unreadable file", "mode 0, read as another user", "skipped: permission denied", _unreadable),
    Dirty("link to nothing", "a dangling link", "skipped: missing", lambda folder: (folder / "x.png").symlink_to("nothing.png")),
    Dirty("link to itself", "a loop of one", "skipped: too many levels of symbolic links", lambda folder: (folder / "x.png").symlink_to("x.png")),
    Dirty("FIFO", "mkfifo x.png", "skipped: not a plain file", lambda folder: os.mkfifo(folder / "x.png")),
    Dirty("socket", "a bound socket x.png", "skipped: no such device or address", _socket),
    Dirty("device", "a link to /dev/zero", "skipped: not a plain file", lambda folder: (folder / "x.png").symlink_to("/dev/zero")),
    Dirty("file of a terabyte", "sparse", "skipped: larger than 536,870,912 bytes", _sparse),
    Dirty("folder named .png", "with a picture in it", UPRIGHT, data("x.png/y.png", PNG)),
]  # fmt: skip


def settings(source: Path, **changes: object) -> ShardSettings:
    """Section `shard` for a folder of 16 pixels per side."""
    values = {
        "kind": "folder", "source": str(source), "image_size": 16, "format": "png", "quality": 95, "val_fraction": 0.3,
        "samples_per_shard": 100, "max_bad_fraction": 0.5, "duplicates": "keep", "seed": 0,
    }  # fmt: skip
    return ShardSettings.model_validate(values | changes)


def sharded(folder: Path, asked: ShardSettings) -> RunFolder:
    """Run `shard` beside its source."""
    made = RunFolder(folder)
    for part in (made.out, made.work, made.metrics):
        part.mkdir(parents=True, exist_ok=True)
    run(asked, HERE, Inputs(), made)
    return made


def outcome(dirty: Dirty) -> Callable[[World, Path], str]:
    """Put the file among eight good ones, shard them as another user, and say what became of it."""

    def one(world: World, folder: Path) -> str:
        source = fresh(folder / "source")
        for number in range(8):
            _write(source / f"good {number}.png", PNG)
        before = {image.name for image in list_source("folder", str(source)).images}
        here = Path.cwd()
        dirty.write(source)
        os.chdir(here)
        for path in (folder, folder.parent):
            path.chmod(0o755)
        folder.chmod(0o777)
        os.seteuid(65534 if os.geteuid() == 0 else os.geteuid())
        try:
            made = sharded(folder / "run", settings(source))
        finally:
            os.seteuid(os.getuid())
        return _told(made, before)

    return one


def _told(made: RunFolder, before: set[str]) -> str:
    counted = read_json(made.metrics / "metrics.json")
    assert counted["seen"] == counted["train"] + counted["val"] + counted["skipped"] == 9, counted
    for line in (made.out / "skipped.jsonl").read_text(encoding="utf-8").splitlines():
        import json

        return f"skipped: {json.loads(line)['reason']}"
    shards = ImageShards.open(made.out)
    for split in ("train", "val"):
        index = shards.index(split)
        for number, row in enumerate(index.rows()):
            if row.source not in before:
                return f"kept: {seen(index.read(number).image)}"
    return "lost without a word"


def looped(world: World, folder: Path) -> str:
    """Folders that lead back to themselves."""
    source = fresh(folder / "source")
    _write(source / "a" / "one.png", PNG)
    (source / "a" / "again").symlink_to(source)
    (source / "a" / "b").mkdir()
    (source / "a" / "b" / "up").symlink_to("..")
    return f"{len(list_source('folder', str(source)).images)} image"


def duplicates(world: World, folder: Path) -> str:
    """Two names, one content."""
    source = fresh(folder / "source")
    for name in ("1.png", "2.png", "3.png", "4.png", "same.png", "same.jpg", "deep/same.png"):
        _write(source / name, PNG)
    counted = read_json(sharded(folder / "run", settings(source)).metrics / "metrics.json")
    return f"{counted['train'] + counted['val']} of {counted['seen']} kept"


def vanishing(world: World, folder: Path) -> str:
    """A file that goes after it was listed."""
    from shards.making.pictures import Encoding
    from shards.making.plans import plan_shards
    from shards.making.writing import write_shard

    source = fresh(folder / "source")
    for number in range(9):
        _write(source / f"{number}.png", PNG)
    plans = plan_shards(list_source("folder", str(source)).images, 0.5, 0, 100)
    (source / "3.png").unlink()
    told = [write_shard(plan, Encoding(16, "png", 95), folder / "work") for plan in plans]
    kept, skipped = sum(len(one["rows"]) for one in told), [row for one in told for row in one["skipped"]]
    return f"{kept} kept, skipped {skipped[0]['source']}: {skipped[0]['reason']}"


def growing(world: World, folder: Path) -> str:
    """A source that changes while the stage runs: seen when it ends, and the run is kept."""
    from stages import shard as stage

    source = fresh(folder / "source")
    for number in range(9):
        _write(source / f"{number}.png", PNG)
    text = (world.root / "params.yaml").read_text(encoding="utf-8")
    params = folder / "params.yaml"
    params.write_text(text.replace("kind: shapes ", "kind: folder ").replace("source: artifacts/shapes", f"source: '{source}'")
                      .replace("val_fraction: 0.05", "val_fraction: 0.5").replace("features: proxy ", "features: squeezenet "))  # fmt: skip
    whole = stage.STAGE

    def grows(*arguments: object) -> None:
        whole.run(*arguments)  # type: ignore[arg-type]
        with (source / "0.png").open("ab") as file:
            file.write(b"more")

    stage.STAGE = replace(whole, run=grows)
    try:
        return world.run("shard", "--params", str(params), "--out", str(folder / "out"))
    finally:
        stage.STAGE = whole


def too_many(world: World, folder: Path) -> str:
    """More bad files than the settings allow."""
    source = fresh(folder / "source")
    for number in range(6):
        _write(source / f"{number}.png", PNG)
    for number in range(3):
        _write(source / f"bad {number}.png", b"x" if number else PNG[:90])
    return world.told(lambda: sharded(folder / "run", settings(source, max_bad_fraction=0.1)))


def unlisted(world: World, folder: Path) -> str:
    """A folder that may not be listed."""
    source = fresh(folder / "source")
    _write(source / "closed" / "one.png", PNG)
    _write(source / "two.png", PNG)
    (source / "closed").chmod(0)
    for path in (folder, folder.parent):
        path.chmod(0o755)
    os.seteuid(65534 if os.geteuid() == 0 else os.geteuid())
    try:
        return world.told(lambda: list_source("folder", str(source)))
    finally:
        os.seteuid(os.getuid())
        (source / "closed").chmod(0o755)


def cases() -> list[Case]:
    """Every dirty image."""
    group = "dirty images"
    return [
        *(Case(dirty.name, group, dirty.made, dirty.expected, outcome(dirty)) for dirty in FILES),
        Case("loops of linked folders", group, "a/again → ., a/b/up → ..", "1 image", looped),
        Case("duplicate content, and one stem twice", group, "same.png, same.jpg, deep/same.png", "7 of 7 kept", duplicates),
        Case("a file that vanishes", group, "removed after the listing", "8 kept, skipped 3.png: missing", vanishing),
        Case("a file that grows", group, "appended to while the stage runs",
             "while this ran, something it depends on changed (inputs: source", growing),
        Case("too many bad files", group, "3 of 9, at max_bad_fraction 0.1",
             "skipped 3 of 9 images (33.3%): 2 not an image, 1 truncated", too_many),
        Case("a folder that cannot be listed", group, "mode 0", "cannot be listed (Permission denied)", unlisted),
    ]  # fmt: skip
