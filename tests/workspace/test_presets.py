"""The presets of all three tasks at all three scales, and the layouts that docs/data.md promises to read."""

import json
import re
from pathlib import Path

import pytest

from models.mqvae import MQVAE
from models.stackformer import Stackformer, StackformerConfig
from shards.making.sources import list_source
from tests.committed import ROOT
from workflow.params import Params, load_params

TEXT = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (\w+) \| (none|class|text) \| (?:`(\S+)`|drawn.*?) \| (\w+) \|", TEXT, re.MULTILINE)
LAYOUTS = {name: body.split() for name, body in re.findall(r"^## (\w+):.*?```\n(.*?)```", TEXT, re.M | re.S)}
PAPER = ("ffhq", "imagenet", "coco")


def preset(name: str) -> Params:
    return load_params(ROOT / "presets" / f"{name}.yaml")


def test_the_table_of_the_presets_is_true() -> None:
    tasks = {name: task for name, task, _, _ in ROWS}
    assert sorted(tasks) == sorted({path.stem for path in (ROOT / "presets").glob("*.yaml")} - {"tiny"})
    for name, task, source, kind in ROWS:
        params = preset(name)
        assert params.stackformer.condition == task, name
        assert params.shard.kind == kind and params.shard.source == (source or "artifacts/shapes"), name
    for scale in (("shapes_uncond", "shapes", "shapes_text"), ("faces", "flowers", "coco_small"), PAPER):
        assert [tasks[name] for name in scale] == ["none", "class", "text"]


@pytest.mark.parametrize("name", PAPER)
def test_the_documented_layout_of_the_papers_data_is_read(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for line in LAYOUTS[name]:
        path = tmp_path / line
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"an image")
    for path in (tmp_path / "data" / "coco" / "annotations").glob("*.json"):
        image = next((tmp_path / "data" / "coco" / path.stem.removeprefix("captions_")).glob("*.jpg"))
        rows = [{"image_id": 1, "caption": text} for text in ("a cat", "a cat on a bed")]
        path.write_text(json.dumps({"images": [{"id": 1, "file_name": image.name}], "annotations": rows}))
    monkeypatch.chdir(tmp_path)
    shard = preset(name).shard
    found = list_source(shard.kind, shard.source)
    pictures = [line for line in LAYOUTS[name] if not line.endswith(".json")]
    assert [f"data/{name}/{image.name}" for image in found.images] == sorted(pictures)
    splits = {image.split for image in found.images}
    assert splits == ({None} if name == "ffhq" else {"train", "val"})
    assert found.classes == (("n01440764", "n15075141") if name == "imagenet" else None)
    assert all(len(image.captions) == (2 if name == "coco" else 0) for image in found.images)


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_presets_build_its_models(name: str) -> None:
    import torch

    params = preset(name)
    settings, second = params.mqvae, params.stackformer
    model = settings.model
    assert (model.downsampling, model.grid, model.num_kept, model.num_codes) == (8, 32, 768, 1024)
    assert (model.demask, model.demask_blocks, settings.exploration.noise) == ("dcsa_update", 8, 0.0)
    assert (model.quantizer.kind, model.quantizer.restart_every) == (
        "ema",
        100,
    ) and settings.loss.adaptive_max == 1
    length = {"none": 1, "class": 1, "text": 32}[second.condition]
    vocab = {"none": 1, "class": 1000, "text": 16384}[second.condition]
    config = StackformerConfig(
        second.model, 1024, model.num_positions, model.num_kept, second.condition, length, vocab
    )
    with torch.device("meta"):
        sizes = [
            sum(weight.numel() for weight in part.parameters())
            for part in (MQVAE(model), Stackformer(config))
        ]
    assert sizes[0] == pytest.approx(37.7e6, rel=0.02) and 300e6 < sizes[1] < 330e6
