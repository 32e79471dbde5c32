"""Laws of the settings: every slip is told in one line, by key, value and nearest valid key, before any work."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import committed, presets
from workflow.params import load_params
from workspace.errors import UserError
from workspace.settings import read_tree


@pytest.fixture
def tree(root: Path) -> dict[str, Any]:
    """The demo's settings, to be spoilt."""
    value: dict[str, Any] = yaml.safe_load((root / "presets" / "shapes.yaml").read_text(encoding="utf-8"))
    return value


def error_of(tree: object, tmp_path: Path, *overrides: str) -> str:
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(tree))
    with pytest.raises(UserError, match=".") as caught:
        load_params(path, overrides)
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("preset", presets.FILES, ids=lambda path: path.stem)
def test_every_preset_is_valid(preset: Path) -> None:
    params = load_params(preset)
    assert set(vars(params)) == set(presets.tree(preset.stem))


@pytest.mark.parametrize("text", ["1e-05", "1e-5", "1E-5", ".1e-4", "1.0e-05", "+1e-5"])
def test_a_number_is_read_as_dvc_writes_it(tree: dict[str, Any], tmp_path: Path, text: str) -> None:
    path = tmp_path / "params.yaml"
    tree["stackformer"]["learning_rate"] = "RATE"
    path.write_text(yaml.safe_dump(tree).replace("RATE", text))
    assert load_params(path).stackformer.learning_rate == 1e-5


@pytest.mark.parametrize(
    ("text", "value"), [("010", 10), ("08", 8), ("+3", 3), ("1_000", 1000), ("0x10", 16), ("0", 0)]
)
def test_a_whole_number_is_a_decimal_one(root: Path, text: str, value: int) -> None:
    assert load_params(root / "presets" / "shapes.yaml", [f"sample.seed={text}"]).sample.seed == value


def test_a_section_that_is_there_twice_is_named_with_its_lines(root: Path, tmp_path: Path) -> None:
    text = (root / "presets" / "shapes.yaml").read_text(encoding="utf-8")
    (tmp_path / "params.yaml").write_text(f"{text}\nsample:\n  seed: 3\n", encoding="utf-8")
    first, last = (1 + text.split("\n").index("sample:"), text.count("\n") + 2)
    with pytest.raises(
        UserError, match=f"params.yaml: sample is there twice, in lines {first} and {last}: remove one"
    ):
        load_params(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\n", encoding="utf-8")
    assert read_tree(tmp_path / "params.yaml")["b"] == {"x": 3, "y": 2}  # YAML's own merges are no duplicates


def test_the_committed_settings_are_the_shapes_preset() -> None:
    preset = "presets/shapes.yaml"
    commits = committed.commits_that_may_agree(preset)
    pairs = [(committed.data("params.yaml", commit), committed.data(preset, commit)) for commit in commits]
    assert any(settings == shapes for settings, shapes in pairs)


def test_an_unknown_key_is_named_with_the_nearest_one(tree: dict[str, Any], tmp_path: Path) -> None:
    tree["mqvae"]["model"]["mask_ratoi"] = tree["mqvae"]["model"].pop("mask_ratio")
    assert "mqvae.model.mask_ratoi is not a setting. Did you mean mask_ratio?" in error_of(tree, tmp_path)


def test_an_unknown_section_is_named_with_the_nearest_one(tree: dict[str, Any], tmp_path: Path) -> None:
    tree["tokenise"] = tree.pop("tokenize")
    assert "tokenise is not a section. Did you mean tokenize?" in error_of(tree, tmp_path)


def test_a_missing_key_is_named(tree: dict[str, Any], tmp_path: Path) -> None:
    del tree["tokenize"]["block"]
    assert "tokenize.block is missing" in error_of(tree, tmp_path)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("mqvae.steps=many", 'mqvae.steps is "many": expected a valid integer'),
        ("mqvae.steps=-1", "mqvae.steps is -1: expected greater than 0"),
        (
            "mqvae.learning_rate='1e-3'",
            'mqvae.learning_rate is "1e-3": expected a valid number (without quotes: 0.001)',
        ),
        ("mqvae.steps=1e3", "mqvae.steps is 1000.0: expected a valid integer (write 1000)"),
        ("mqvae.steps=12:30", 'mqvae.steps is "12:30": expected a valid integer'),
        (
            "mqvae={steps: 3, steps: 4}",
            "--set mqvae={steps: 3, steps: 4}: steps is there twice, in lines 1 and 1: remove one",
        ),
        ("mqvae.model.mask_ratio=0.999", "keeps N = 0 of L = 64 cells; expected N ≥ 1"),
        ("mqvae.model.image_size=30", "image_size 30 is not divisible by the down-sampling 4"),
        ("mqvae.micro_batch=5", "mqvae.global_batch 16 is not a multiple of micro_batch 5"),
        ("mqvae.quantize_start=0", "an EMA codebook starts from a batch's features: expected ≥ 1"),
        ("mqvae.loss.perceptual=1.0", "expected a weight > 0 with a network, or 0 with none"),
        ("shard.image_size=64", "image_size"),
        ("shard.kind=folder", "stackformer.condition is class, and shard.kind folder has no classes"),
        ("mqvae.stepz=3", "mqvae.stepz is not a setting. Did you mean steps"),
        ("mqvae.steps", "expected section.key=value"),
        ("compute.workers=-1", "compute.workers is -1"),
        ("tokenize.budget.kind=rate", "tokenize.budget.kind is rate, and mqvae.model.kept is fixed"),
        ("tokenize.budget.mask_ratio=0.25", "expected mqvae.model.kept any"),
        ("tokenize.budget.kind=quallity", "tokenize.budget.kind"),
        ("tokenize.budget.distance=3", "tokenize.budget.distance"),
    ],
)
def test_impossible_values_and_combinations_are_refused(
    tree: dict[str, Any], tmp_path: Path, override: str, message: str
) -> None:
    assert message in error_of(tree, tmp_path, override)


def test_a_file_that_is_missing_or_not_yaml_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist: take one with `cp presets/shapes.yaml"):
        load_params(tmp_path / "nowhere.yaml")
    (tmp_path / "bad.yaml").write_text("a: [1,")
    with pytest.raises(UserError, match="bad.yaml is not YAML"):
        load_params(tmp_path / "bad.yaml")
