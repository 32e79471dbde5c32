"""Laws of a run's origin: the nearest preset, what differs from it, and a line that leads back to the same settings."""

import shlex
import shutil
from pathlib import Path

import pytest
import yaml

from tests import presets
from tests.committed import ROOT
from tests.tiny import run
from workflow.command_line import by_hand, parser_of
from workflow.origin import again, nearest_preset, origin_of
from workflow.stage import stage_named
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


@pytest.mark.parametrize(
    ("stage", "typed", "expected"),
    [
        ("evaluate", "--samples artifacts/samples --out artifacts/evaluation --metrics metrics/evaluate", ""),
        ("evaluate", "", ""),
        ("evaluate", "--images 'my images' --out d", "--out=d --images='my images'"),
        ("evaluate", "--images a --real b --out d --set evaluate.seed=3", "--out=d --images=a --real=b --set=evaluate.seed=3"),
        ("evaluate", "--samples elsewhere", "--samples=elsewhere"),
        ("sample", "--edit a.png --redraw=-4,0,4,4 --out d", "--out=d --edit=a.png --redraw=-4,0,4,4"),
        ("sample", "--prompt 'a b' --prompt c --params p.yaml --out d", "--out=d --params=p.yaml --prompt='a b' --prompt=c"),
        ("tokenize", "--out d --set 'tokenize.budget.kind=rate'", "--out=d --set=tokenize.budget.kind=rate"),
    ],
)  # fmt: skip
def test_what_was_typed_by_hand_is_in_the_line_and_parses_to_the_same(
    stage: str, typed: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The workflow's own commands add nothing; of `--force` a run that is made again has no need."""
    for name in ("dvc.yaml", "demo/dvc.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    found = stage_named(stage)
    arguments = parser_of(found).parse_args(shlex.split(typed))
    line = by_hand(found, arguments)
    assert line == (f"python -m stages.{stage} {expected}" if expected else "")
    assert not expected or parser_of(found).parse_args(shlex.split(line)[3:]) == arguments


def test_the_command_comes_after_what_the_params_file_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(presets.text("tiny"))
    (tmp_path / "presets").mkdir()
    (tmp_path / "presets" / "tiny.yaml").write_text(presets.text("tiny"))
    found = origin_of(Path("params.yaml"), Path("shards"), ("evaluate.seed=3",), "python -m stages.evaluate")
    assert found["settings"]["evaluate.seed"] == 3
    assert "evaluate.seed=3" not in found["again"]
    assert found["again"].endswith(" && python -m stages.evaluate")


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
