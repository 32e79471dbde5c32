"""Small data sets of coloured pictures, and a world in which every stage is run on one of them."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from tests import presets
from tests.hostile.table import ROOT, SMALL, World
from workspace.settings import STAGES

FLOW = tuple(stage for stage in STAGES if stage != "draw_shapes")


def picture(path: Path, number: int) -> None:
    """A PNG of 16 pixels of its own colours."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(number).integers(0, 255, (4, 4, 3))
    Image.fromarray(np.kron(coarse, np.ones((4, 4, 1))).astype(np.uint8)).save(path)


def changed(tree: dict[str, Any], changes: dict[str, Any]) -> str:
    """A params file with `section.key` → value; the keys must be there."""
    for name, value in changes.items():
        *parents, last = name.split(".")
        node = tree
        for parent in parents:
            node = node[parent]
        assert last in node, name
        node[last] = value
    return yaml.safe_dump(tree)


def small_world(
    root: Path, train: int, val: int, classes: int = 1, alike: bool = False, **changes: Any
) -> World:
    """A folder with so many pictures of so many classes, and params of three steps each; `__` in a name is a point."""
    for name in ("dvc.yaml", "demo/dvc.yaml"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, root / name)
    for split, count in (("train", train), ("val", val)):
        for number in range(count):
            name = f"class{number % classes}/{number}.png"
            picture(root / "data" / split / name, 0 if alike else number + (split == "val") * 500)
    text = presets.text("tiny")
    for old, new in SMALL.items():
        text = text.replace(old, new)
    usual = {
        "shard.kind": "class_folder", "shard.source": "data", "mqvae.steps": 3, "stackformer.steps": 3,
        "sample.num_images": 4, "sample.guidance_scale": 1.0,
    }  # fmt: skip
    settings = usual | {name.replace("__", "."): value for name, value in changes.items()}
    (root / "params.yaml").write_text(changed(yaml.safe_load(text), settings), encoding="utf-8")
    return World(root)


def through(world: World) -> str:
    """Every stage in turn: the first refusal, or that all are done."""
    for stage in FLOW:
        told = world.run(stage)
        if told != "done":
            return f"{stage} {told}"
    return "every stage is done"


def finished(folder: Path) -> World:
    """Nine pictures on which every stage has run, beside `folder`; made by the first who asks, changed by nobody."""
    root = folder.parent / "small-world"
    if not root.exists():
        assert through(small_world(root, 5, 4)) == "every stage is done"
    return World(root)
