"""Editing a picture by `stages.sample --edit`: what is made, and what is said of an edit that cannot be."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from shards.samples import sample_shards
from tests.field.table import Field, Row
from workspace.exact.manifest import read_json, read_manifest

EDIT = "editing a picture"


def picture(path: Path, size: int = 16) -> Path:
    """A picture of random colours."""
    pixels = np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def edited(*options: str) -> Callable[[Field, Path], str]:
    """What is said of an edit of a picture of 16 × 16 pixels; PLACE in an option is the folder that holds it."""

    def outcome(field: Field, folder: Path) -> str:
        picture(folder / "a.png")
        Image.new("L", (16, 16), 255).save(folder / "white.png")
        Image.new("L", (20, 30)).save(folder / "odd.png")
        (folder / "words.txt").write_text("no picture", encoding="utf-8")
        asked = [option.replace("PLACE", str(folder)) for option in options]
        said = field.world().run("sample", *asked, "--out", str(folder / "out"))
        return said.replace(f"{folder}/", "").replace(re.sub(r"[^/]*$", "", f"…/{folder.name}/"), "")

    return outcome


def made(field: Field, folder: Path) -> str:
    """What lies in the folder of an edit."""
    world, out = field.world(), folder / "out"
    path = str(picture(folder / "a.png"))
    options = ("--edit", path, "--redraw", "4,4,12,12", "--candidates", "2", "--set", "sample.num_images=2")
    options += ("--set", "sample.batch=2", "--set", "sample.samples_per_shard=2")
    metrics = folder / "metrics"
    told = world.run("sample", *options, "--out", str(out), "--metrics", str(metrics))
    worth = read_json(metrics / "metrics.json")["effective_candidates"]
    tars = len(sample_shards(out, read_manifest(out, "samples")))
    files = sorted(file.name for file in out.rglob("*.png"))
    return f"{told}: {', '.join(files)}; {tars} tar; of 2 candidates worth {'1 … 2' if 1 <= worth <= 2 else worth}"


ROWS: tuple[Row, ...] = (
    Row("a part of a picture is to be drawn again", EDIT, "`--edit a.png --redraw 4,4,12,12 --candidates 2`",
        "done: 00000000.png, 00000001.png, before.png, grid.png; 1 tar; of 2 candidates worth 1 … 2", made),
    Row("an edit without a region", EDIT, "`--edit a.png`",
        "give params.yaml: sample.keep (what stays) or params.yaml: sample.redraw (what is drawn again), not neither",
        edited("--edit", "PLACE/a.png")),
    Row("an edit with both kinds of region", EDIT, "`--edit a.png --keep upper --redraw lower`", "not both",
        edited("--edit", "PLACE/a.png", "--keep", "upper", "--redraw", "lower")),
    Row("a region without a picture", EDIT, "`--keep upper`", "sample.keep is for a picture: name it in params.yaml: sample.edit",
        edited("--keep", "upper")),
    Row("candidates without a picture", EDIT, "`--candidates 4`", "sample.candidates is for a picture",
        edited("--candidates", "4")),
    Row("no candidates", EDIT, "`--edit a.png --keep upper --candidates 0`", "sample.candidates is 0: expected greater than 0",
        edited("--edit", "PLACE/a.png", "--keep", "upper", "--candidates", "0")),
    Row("a picture to edit that is not there", EDIT, "`--edit b.png --keep upper`", "b.png does not exist",
        edited("--edit", "PLACE/b.png", "--keep", "upper")),
    Row("a picture to edit that is none", EDIT, "`--edit words.txt --keep upper`", "words.txt is not an image",
        edited("--edit", "PLACE/words.txt", "--keep", "upper")),
    Row("a mask that is not there", EDIT, "`--edit a.png --keep m.png`", "m.png: expected a mask (an image, white where), a box X0,Y0,X1,Y1",
        edited("--edit", "PLACE/a.png", "--keep", "PLACE/m.png")),
    Row("a region that is a slip", EDIT, "`--edit a.png --keep uper`", "sample.keep is uper: expected a mask (an image, white where), a box X0,Y0,X1,Y1 in pixels, upper,",
        edited("--edit", "PLACE/a.png", "--keep", "uper")),
    Row("a mask that is no picture", EDIT, "`--edit a.png --keep words.txt`", "words.txt is not an image",
        edited("--edit", "PLACE/a.png", "--keep", "PLACE/words.txt")),
    Row("a mask of the wrong size", EDIT, "a mask of 20 × 30 pixels for a picture of 16 × 16",
        "odd.png has 20 × 30 pixels", edited("--edit", "PLACE/a.png", "--keep", "PLACE/odd.png")),
    Row("a box outside of the picture", EDIT, "`--edit a.png --redraw 8,8,24,24`, 16 × 16 pixels",
        "expected 0 ≤ X0 < X1 ≤ 16, 0 ≤ Y0 < Y1 ≤ 16", edited("--edit", "PLACE/a.png", "--redraw", "8,8,24,24")),
    Row("a box left of the picture", EDIT, "`--edit a.png --redraw=-4,0,4,4`", "the box -4,0,4,4 does not fit",
        edited("--edit", "PLACE/a.png", "--redraw=-4,0,4,4")),
    Row("an empty box", EDIT, "`--edit a.png --redraw 8,8,8,12`", "the box 8,8,8,12 does not fit",
        edited("--edit", "PLACE/a.png", "--redraw", "8,8,8,12")),
    Row("a mask that keeps everything", EDIT, "`--edit a.png --keep white.png`", "to draw again: choose a smaller region",
        edited("--edit", "PLACE/a.png", "--keep", "PLACE/white.png")),
)  # fmt: skip
