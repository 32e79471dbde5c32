"""Scores in and out: images that others made, in the forms in which they come."""

import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from shards.pack_samples import pack
from tests.field.table import Field, Row
from tests.hostile.table import plain
from workspace.errors import UserError
from workspace.exact.manifest import read_manifest

AREA = "scores in and out"
Make = Callable[[Path], Path]


def noise(count: int = 5, side: int = 16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def folder_of(path: Path, names: tuple[str, ...] = ("a.png", "b.png", "c.png", "d.png", "e.png")) -> Path:
    """Pictures with these names."""
    for name, image in zip(names, noise(len(names)), strict=True):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path / name)
    return path


def npz_of(**arrays: Any) -> Make:
    """An .npz of these arrays."""

    def make(path: Path) -> Path:
        np.savez(path.with_suffix(".npz"), **arrays)
        return path.with_suffix(".npz")

    return make


def with_file(name: str, data: bytes) -> Make:
    """Five pictures and one more file."""

    def make(path: Path) -> Path:
        folder_of(path)
        (path / name).write_bytes(data)
        return path

    return make


def tarred(path: Path) -> Path:
    folder_of(path / "inner", ("x/1.png", "x/2.png", "y/1.png"))
    with tarfile.open(path.with_suffix(".tar.gz"), "w:gz") as tar:
        tar.add(path / "inner", ".")
    return path.with_suffix(".tar.gz")


def folder_of_tars(path: Path) -> Path:
    path.mkdir()
    for number in range(2):
        folder_of(path.parent / f"part-{number}")
        with tarfile.open(path / f"{number}.tar", "w") as tar:
            tar.add(path.parent / f"part-{number}", "images")
    return path


def larger(path: Path) -> Path:
    folder_of(path)
    Image.fromarray(noise(1, 20)[0]).save(path / "z.png")
    return path


def torn(path: Path) -> Path:
    folder_of(path)
    (path / "z.png").write_bytes((path / "a.png").read_bytes()[:400])
    return path


def wide(path: Path) -> Path:
    path.mkdir()
    Image.new("RGB", (20, 16)).save(path / "a.png")
    return path


def packs(make: Make) -> Callable[[Field, Path], str]:
    """How many images came of it, or the error."""

    def outcome(field: Field, folder: Path) -> str:
        try:
            pack(make(folder / "images"), folder / "out", None, ("x", "y"))
        except UserError as error:
            return f"refused: {plain(str(error), folder)}"
        facts = read_manifest(folder / "out", "samples").facts
        return f"{facts['count']} images of {facts['image_size']} px, condition {facts['condition']}"

    return outcome


def scored(*options: str) -> Callable[[Field, Path], str]:
    """What `evaluate` says of options, `{here}` being the row's folder with five pictures of 16 px."""

    def outcome(field: Field, folder: Path) -> str:
        folder_of(folder / "images")
        words = [word.format(here=folder) for word in options]
        return plain(field.world().run("evaluate", *words), folder)

    return outcome


def row(symptom: str, made: str, expected: str, outcome: Callable[[Field, Path], str]) -> Row:
    return Row(symptom, AREA, made, expected, outcome)


OUT = ("--out", "{here}/out")
IMAGES = {"arr_0": noise()}
ROWS = (
    row("a folder of PNGs scored", "five PNGs", "5 images of 16 px", packs(folder_of)),
    row(
        "a packed tar of class folders",
        "x/1.png … in .tar.gz",
        "3 images of 16 px, condition class",
        packs(tarred),
    ),
    row("a folder of tars", "two tars of five", "10 images of 16 px", packs(folder_of_tars)),
    row("ADM's npz", "arr_0", "5 images of 16 px, condition none", packs(npz_of(**IMAGES))),
    row(
        "ADM's npz with labels",
        "arr_1 of 0 and 1",
        "condition class",
        packs(npz_of(**IMAGES, arr_1=np.array([0, 1, 0, 1, 1]))),
    ),
    row(
        "labels of another data set",
        "arr_1 up to 999",
        "condition none",
        packs(npz_of(**IMAGES, arr_1=np.array([0, 999, 0, 1, 1]))),
    ),
    row(
        "an npz of floats in -1 … 1",
        "float32",
        "expected uint8 [N, H, W, 3]",
        packs(npz_of(arr_0=np.zeros((2, 4, 4, 3), np.float32))),
    ),
    row(
        "an npz with channels first",
        "[N, 3, H, W]",
        "uint8 [2, 3, 4, 4], expected uint8 [N, H, W, 3]",
        packs(npz_of(arr_0=np.zeros((2, 3, 4, 4), np.uint8))),
    ),
    row(
        "an npz that needs pickle",
        "object array",
        "which only pickle reads: refused",
        packs(npz_of(arr_0=np.array([None], object))),
    ),
    row(
        "an npz of statistics alone as images",
        "mu, sigma",
        "holds mu, sigma; expected arr_0",
        packs(npz_of(mu=np.zeros(2), sigma=np.eye(2))),
    ),
    row(
        "a torn picture among those to be scored",
        "half a PNG",
        "1 of 6 images cannot be scored: 1 truncated",
        packs(torn),
    ),
    row("a text file beside pictures", "notes.txt", "5 images of 16 px", packs(with_file("notes.txt", b"x"))),
    row(
        "one picture of another size",
        "20 px among 16 px",
        "1 of 20 × 20 pixels, expected 16 × 16",
        packs(larger),
    ),
    row("pictures that are not square", "20 × 16", "20 × 16 pixels; expected square images", packs(wide)),
    row(
        "`--images` without `--out`",
        "five PNGs",
        "--images needs --out FOLDER",
        scored("--images", "{here}/images"),
    ),
    row(
        "`--images` of nothing",
        "a folder that does not exist",
        "expected a folder of images, a tar or zip of them, or an .npz",
        scored("--images", "{here}/nowhere", *OUT),
    ),
    row("images scored by hand", "five PNGs", "done", scored("--images", "{here}/images", *OUT)),
    row("real images given by hand", "five PNGs", "done", scored("--real", "{here}/images", *OUT)),
)
