"""A folder in which `shard` runs in this process as `python -m stages.shard` does, run folders and all."""

import contextlib
import io
import re
from collections.abc import Iterator
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import yaml
from PIL import Image

from shards.making import writing
from tests import presets
from tests.field.counting import check_counts
from tests.hostile.table import ROOT
from workflow import running
from workflow.command_line import parser_of
from workflow.stage import stage_named
from workspace.exact.manifest import read_json


def colour(number: int, size: int = 12) -> Image.Image:
    """A picture of one colour with a corner of another; each number another picture."""
    pixels = np.full((size, size, 3), (number * 37 % 256, number * 91 % 256, number * 53 % 256), np.uint8)
    pixels[: size // 2, : size // 2] = 255 - pixels[0, 0]
    return Image.fromarray(pixels)


def picture_bytes(number: int, form: str = "png", size: int = 12, **options: object) -> bytes:
    """The file of such a picture."""
    made = io.BytesIO()
    colour(number, size).save(made, form, **options)
    return made.getvalue()


def write(path: Path, data: bytes) -> Path:
    """A file, its folders made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def pictures(folder: Path, count: int, first: int = 0) -> Path:
    """Some pictures in a folder."""
    for number in range(first, first + count):
        write(folder / f"{number:03d}.png", picture_bytes(number))
    return folder


@dataclass(frozen=True)
class Place:
    """A repository's root with params.yaml and dvc.yaml.

    Attributes:
        root: the folder.
        stage: which stage is run.
    """

    root: Path
    stage: str = "shard"

    @classmethod
    def of(cls, root: Path, source: object, **changes: object) -> "Place":
        """A place whose section `shard` names this source."""
        (root / "demo").mkdir(parents=True, exist_ok=True)
        for name in ("dvc.yaml", "demo/dvc.yaml"):
            (root / name).write_bytes((ROOT / name).read_bytes())
        params = presets.tree("tiny")
        few = {"image_size": 8, "samples_per_shard": 4, "val_fraction": 0.3, "max_bad_fraction": 1.0}
        params["shard"] |= {"kind": "folder", "source": str(source), **few} | changes
        params["mqvae"]["model"]["image_size"] = params["shard"]["image_size"]
        params["reference"]["features"] = "squeezenet"
        params["stackformer"] |= {"condition": "none", "cfg_dropout": 0.0}
        params["sample"] |= {"guidance_scale": 1.0}
        params["compute"]["threads"] = 1
        (root / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
        return cls(root)

    def run(self, *options: str) -> "Ran":
        """Run the stage; what it said, and how many pictures were encoded."""
        stage = stage_named(self.stage)
        said, encode = io.StringIO(), writing.encode_image
        with (
            chdir(self.root),
            contextlib.redirect_stderr(said),
            mock.patch.object(writing, "encode_image", side_effect=encode) as encoding,
        ):
            try:
                running.run(stage, parser_of(stage).parse_args(options))
            except Exception as error:
                line = running.told_in_a_line(error)
                if line is None:
                    raise
                return Ran(f"refused: {self.plain(line)}", encoding.call_count, {})
        counts = read_json(self.root / "metrics" / "shard" / "metrics.json")
        check_counts(counts, self.root / "artifacts" / "shards")
        return Ran(self.plain(said.getvalue()), encoding.call_count, counts)

    def plain(self, text: str) -> str:
        """A message without this machine's folders, rates and fingerprints."""
        text = text.replace(f"{self.root}/", "").replace(str(self.root), ".")
        return re.sub(r", [\d,.]+/s", "", re.sub(r"\b[0-9a-f]{16}\b", "#", text))

    def tars(self) -> Iterator[Path]:
        """The tars of image shards."""
        yield from sorted((self.root / "artifacts" / "shards").rglob("*.tar"))


@dataclass(frozen=True)
class Ran:
    """What came of a run: what was said, pictures encoded, and its counts."""

    said: str
    encoded: int
    counts: dict[str, int]

    def line(self, word: str) -> str:
        """The first line that holds a word."""
        return next((line for line in self.said.splitlines() if word in line), f"no line says {word}")
