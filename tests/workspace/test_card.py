"""Laws of model cards: metadata that Hugging Face reads, code that runs, prose that no fingerprint knows."""

import json
import re
import shutil
from contextlib import chdir
from pathlib import Path

import pytest
import yaml

from models.mqvae import MQVAE
from tests.hostile.table import World
from tests.tiny import small_world, typed
from workspace.fingerprints import input_fingerprint, is_published

KINDS = ("mqvae", "stackformer")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return small_world(tmp_path_factory, tmp_path_factory.mktemp("cards") / "world")


def parts(folder: Path) -> tuple[dict[str, object], str]:
    """The metadata block and the rest."""
    _, block, text = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(block), text


@pytest.mark.parametrize("kind", KINDS)
def test_a_published_model_has_a_card_and_its_code_loads_it(world: World, kind: str) -> None:
    folder = world.artifact(kind)
    metadata, text = parts(folder)
    assert metadata["license"] == "unknown" and "arxiv:2305.13607" in str(metadata["tags"])
    results = metadata["model-index"][0]["results"][0]  # type: ignore[index]
    assert {metric["type"] for metric in results["metrics"]} >= {
        "mqvae": {"psnr"},
        "stackformer": {"nats_per_image"},
    }[kind]
    code = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0]
    assert len(code.splitlines()) <= 12
    made: dict[str, object] = {}
    exec(code.replace("FOLDER", str(folder)).replace('"MQVAE"', f'"{world.artifact("mqvae")}"'), made)
    assert made["back_BCHW" if kind == "mqvae" else "image_BCHW"].shape[:2] == (1, 3)  # type: ignore[attr-defined]
    assert "20" + "26" not in text and str(world.root) not in text


def test_another_word_in_a_card_is_no_other_model_and_another_file_is(world: World, tmp_path: Path) -> None:
    copy = shutil.copytree(world.artifact("mqvae"), tmp_path / "mqvae")
    with chdir(tmp_path):
        before = input_fingerprint(copy)
        (copy / "README.md").write_text("reworded")
        assert is_published(copy) and input_fingerprint(copy) == before
        (copy / "README.md").unlink()
        assert is_published(copy)
        (copy / "notes.md").write_text("mine")
        assert not is_published(copy)


@pytest.mark.parametrize("kind", KINDS)
def test_the_copy_to_upload_has_later_scores_and_where_it_came_from(
    world: World, kind: str, tmp_path: Path
) -> None:
    out = tmp_path / kind
    said = typed(world.root, "python", "-m", "workflow.card", kind, "--out", str(out))
    metadata, text = parts(out)
    later = json.loads(
        (
            world.root
            / "metrics"
            / {"mqvae": "reconstruct", "stackformer": "evaluate"}[kind]
            / "metrics.json"
        ).read_text()
    )
    scored = {name for name in later if re.fullmatch(r"proxy_r?fd", name)}
    types = {metric["type"] for metric in metadata["model-index"][0]["results"][0]["metrics"]}  # type: ignore[index]
    names = re.findall(r"^\| (\w+) \|", text, re.MULTILINE)
    assert len(names) == len(set(names)) > 3
    assert scored and scored <= types and "numbers in its README.md" in said
    assert "## Where it came from" in text and "dvc " in text
    assert (
        is_published(out)
        and (out / "manifest.json").read_bytes() == (world.artifact(kind) / "manifest.json").read_bytes()
    )
    again = typed(world.root, "python", "-m", "workflow.card", kind, "--out", str(out), check=False)
    assert "exists already: name another folder" in again
    assert kind != "mqvae" or MQVAE.from_pretrained(out).config.image_size
