"""Old names of settings: each is answered with its new name, all at once, and a command writes them into the file."""

import json
from pathlib import Path

import pytest
import yaml

from models.base.pretrained import RENAMED as RENAMED_FIELDS
from models.base.pretrained import config_from_json
from models.mqvae import MQVAEConfig
from tests import presets
from tests.committed import ROOT
from workflow.params import load_params
from workspace.errors import UserError
from workspace.renamed import RENAMED, main, renamed, with_new_names
from workspace.settings import read_section, read_tree

OLDER = sorted((ROOT / "tests/workspace/older").glob("*.yaml"))


def _at(tree: object, name: str) -> object:
    for key in name.split("."):
        assert isinstance(tree, dict) and key in tree, name
        tree = tree[key]
    return tree


@pytest.mark.parametrize("path", OLDER, ids=lambda path: path.stem)
def test_an_older_params_file_is_answered_with_the_new_name_of_each_key_it_has(path: Path) -> None:
    with pytest.raises(UserError, match="has settings under old names") as caught:
        load_params(path)
    lines = str(caught.value).splitlines()[1:]
    assert [line.split()[0] for line in lines] == list(RENAMED)
    assert [line.split()[2].rstrip(":") for line in lines] == [renamed(name) for name in RENAMED]
    assert any(line.endswith("anneal_end: 0.72 of 1,400 steps is 1008") for line in lines)


@pytest.mark.parametrize("path", OLDER, ids=lambda path: path.stem)
def test_an_older_params_file_is_valid_under_the_new_names_and_says_what_it_said(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A setting that was added later has a default; a setting that was renamed is written by the command."""
    file = tmp_path / "params.yaml"
    file.write_bytes(path.read_bytes())
    for _ in range(2):  # the second time there is nothing to do
        monkeypatch.setattr("sys.argv", ["renamed", str(file)])
        main()
    old, new = path.read_text(encoding="utf-8"), file.read_text(encoding="utf-8")
    assert len(old.splitlines()) == len(new.splitlines())
    assert [line.partition("#")[1:] for line in old.splitlines()] == [
        line.partition("#")[1:] for line in new.splitlines()
    ]
    for name in RENAMED:
        before, after = _at(yaml.safe_load(old), name), _at(yaml.safe_load(new), renamed(name))
        assert before == after or name.startswith("mqvae.exploration."), name
    params = load_params(file)
    for name, section in yaml.safe_load(new).items():
        kept = vars(params)[name]
        assert section["seed"] == kept.seed if "seed" in section else kept


def test_new_names_are_settings_and_old_names_are_none() -> None:
    tree = presets.tree("shapes")
    for name in RENAMED:
        _at(tree, renamed(name))
        with pytest.raises(AssertionError, match=name):
            _at(tree, name)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mqvae: {steps: 24, exploration: {until: 0.6}}", "mqvae: {steps: 24, exploration: {anneal_start: 15}}"),
        ("mqvae: {steps: 1200, exploration: {freeze_from: 0.09}}", "mqvae: {steps: 1200, exploration: {freeze_start: 108}}"),
        ("mqvae: {steps: 9, exploration: {freeze_from: 1.0}}", "mqvae: {steps: 9, exploration: {freeze_start: null}}"),
        ("base: shapes.yaml\nsample:\n  guidance: 3.0   # mine", "base: shapes.yaml\nsample:\n  guidance_scale: 3.0   # mine"),
        ("guidance: 3.0\n", "guidance: 3.0\n"),
    ],
)  # fmt: skip
def test_names_and_units_are_written_in_their_places(text: str, expected: str) -> None:
    assert with_new_names(text, "x") == expected


def test_a_share_without_its_steps_and_a_broken_file_are_one_line() -> None:
    with pytest.raises(UserError, match=r"until is a share, but the file has no mqvae\.steps"):
        with_new_names("mqvae: {exploration: {until: 0.6}}", "mine.yaml")
    with pytest.raises(UserError, match=r"until is 'soon', expected a share of mqvae\.steps"):
        with_new_names("mqvae: {steps: 10, exploration: {until: soon}}", "mine.yaml")
    with pytest.raises(UserError, match=r"mine\.yaml is not YAML"):
        with_new_names("mqvae: [", "mine.yaml")


def test_old_names_on_the_command_line_and_in_a_base_are_answered_too(tmp_path: Path) -> None:
    demo = presets.FOLDER / "shapes.yaml"
    with pytest.raises(
        UserError, match=r"^--set mqvae\.clip=1: mqvae\.clip → mqvae\.max_grad_norm\n--set sample"
    ):
        read_tree(demo, ["mqvae.clip=1", "sample.seed=1", "sample.guidance=2"])
    (tmp_path / "shapes.yaml").write_bytes(OLDER[0].read_bytes())
    (tmp_path / "mine.yaml").write_text("base: shapes.yaml\nsample: {guidance: 2.0}\n")
    with pytest.raises(UserError, match=r"mine\.yaml has settings under old names(.|\n)*guidance_scale"):
        read_tree(tmp_path / "mine.yaml")
    (tmp_path / "mine.yaml").write_text("base: shapes.yaml\n")
    from settings.sample import SampleSettings

    with pytest.raises(UserError, match=r"shapes\.yaml has settings under old names"):
        read_section(tmp_path / "mine.yaml", SampleSettings)


def test_an_older_published_config_is_answered_with_the_new_name_of_each_key() -> None:
    settings = load_params(presets.FOLDER / "shapes.yaml").mqvae.model
    new = json.loads(json.dumps(vars(settings) | {"quantizer": vars(settings.quantizer)}))
    assert config_from_json(MQVAEConfig, new) == settings
    old = {
        next((was for was, now in RENAMED_FIELDS.items() if now == name), name): value
        for name, value in new.items()
    }
    with pytest.raises(
        ValueError,
        match=r"stem is now patch_size, multipliers is now channel_multipliers: rename them in config\.json",
    ):
        config_from_json(MQVAEConfig, old)
