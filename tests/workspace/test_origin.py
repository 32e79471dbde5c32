"""Laws of a run's origin: the nearest preset, what differs from it, and a line that leads back to the same settings."""

import shlex
from pathlib import Path

import pytest
import yaml

from tests import presets
from tests.tiny import run
from workflow.origin import again, nearest_preset, origin_of
from workspace.settings import read_tree

CHANGES = [
    "mqvae.steps=40",
    "mqvae.freeze=[encoder]",
    "sample.prompts=null",
    "stackformer.learning_rate=1e-5",
]


@pytest.mark.parametrize("name", [path.stem for path in presets.FILES])
def test_a_preset_is_its_own_nearest_and_differs_in_nothing(name: str) -> None:
    assert nearest_preset(presets.tree(name), presets.FOLDER) == (name, {})


def test_the_line_leads_back_to_the_same_settings() -> None:
    path = presets.FOLDER / "faces.yaml"
    tree = read_tree(path, CHANGES)
    name, settings = nearest_preset(tree, presets.FOLDER)
    assert name == "faces" and set(settings) == {"mqvae.steps", "mqvae.freeze", "stackformer.learning_rate"}
    words = shlex.split(again("0" * 40, name, settings))
    assert words[:7] == ["git", "checkout", "0" * 12, "&&", "make", "preset", "PRESET=faces"]
    given = [word for before, word in zip(words, words[1:], strict=False) if before == "-S"]
    assert read_tree(path, given) == tree


def test_data_elsewhere_is_named_to_make() -> None:
    assert (
        again(None, "faces", {"shard.source": "/my data"})
        == "make preset PRESET=faces SOURCE='/my data' && dvc repro"
    )
    assert again(None, "", {}) == "dvc repro"


def test_revision_and_changed_code_are_gits_and_results_are_no_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(presets.text("tiny"))
    assert origin_of(Path("params.yaml"), Path("shards"))["revision"] is None
    (tmp_path / "presets").mkdir()
    for path in presets.FILES:
        (tmp_path / "presets" / path.name).write_bytes(path.read_bytes())
    for name in ("code.py", "metrics/a.json", "dvc.lock"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("1")
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "one"]):
        run(tmp_path, "git", *command)
    for name in ("metrics/a.json", "dvc.lock", "params.yaml"):
        (tmp_path / name).write_text((tmp_path / name).read_text() + " ")
    found = origin_of(Path("params.yaml"), Path("shards"), ("mqvae.steps=3",))
    assert (len(found["revision"]), found["changed"], found["preset"]) == (40, [], "tiny")
    assert (
        found["settings"] == {"mqvae.steps": 3}
        and found["data"]["source"] == yaml.safe_load(presets.text("tiny"))["shard"]["source"]
    )
    (tmp_path / "code.py").write_text("2")
    assert origin_of(Path("params.yaml"), Path("shards"))["changed"] == ["code.py"]
