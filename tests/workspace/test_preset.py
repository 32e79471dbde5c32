"""Taking a preset: it is written out in full, as DVC would write it, and no setting that somebody wrote is lost."""

import copy
import difflib
import itertools
import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from pipelines.params import with_value
from tests import presets
from tests.committed import ROOT
from workflow import preset
from workflow.lacking import missing
from workflow.preset import rendered, save, take
from workspace.errors import UserError
from workspace.settings import read_tree

TREE = presets.tree("shapes")
CHANGES = (
    "sample.guidance_scale=2.5",
    "mqvae.learning_rate=1.0e-5",
    "mqvae.steps=12345678",
    "mqvae.flip=true",
    "shard.kind=auto",
    "shard.source=/data/my images",
    "shard.tables=labels.csv",
    "sample.seed=1",
    "mqvae.exploration.noise=0.0",
    "sample.code.top_p=0.95",
    "report.title=Mine",
    "compute.checkpoints=s3://bucket/runs",
    "evaluate.num_images=100",
    "mqvae.model.channel_multipliers=[1,2,2]",
)
"""One line each: numbers, words, paths, nothing before, the first and last of a section, one more in a list."""

NAMED_BY_SETTINGS = sorted(
    {*re.findall(r"\$\{(\w+\.[\w.]+)\}", (ROOT / "dvc.yaml").read_text(encoding="utf-8"))}
)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """params.yaml, committed, beside the presets and two more."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "presets").mkdir()
    for path in presets.FILES:
        (tmp_path / "presets" / path.name).write_bytes(path.read_bytes())
    for name, guidance in (("one", 1.0), ("two", 2.0)):
        _write(name, f"# Preset {name}.\nbase: shapes.yaml\nsample: {{guidance_scale: {guidance}}}\n")
    (tmp_path / "params.yaml").write_text("name: mine\n")
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@example.invalid"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "start"]):
        subprocess.run([*git, *command], check=True, capture_output=True)
    return tmp_path / "params.yaml"


def _write(name: str, text: str) -> None:
    Path("presets", f"{name}.yaml").write_text(text)


def _changed(before: str, after: str) -> tuple[int, int]:
    """How many lines are gone, and how many are new."""
    lines = [*difflib.ndiff(before.splitlines(), after.splitlines())]
    return sum(line[0] == "-" for line in lines), sum(line[0] == "+" for line in lines)


@pytest.mark.parametrize("name", [path.stem for path in presets.FILES])
def test_a_preset_is_written_with_every_setting_in_the_form_in_which_dvc_writes(
    name: str, tmp_path: Path
) -> None:
    apply_overrides = pytest.importorskip("dvc.utils.hydra", reason="DVC is not installed").apply_overrides
    text, params = presets.text(name), tmp_path / "params.yaml"
    assert yaml.safe_load(text) == presets.tree(name)
    assert text.partition("\n\n")[0] in (presets.FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    params.write_text(text, encoding="utf-8")
    apply_overrides(params, [f"sample.seed={presets.tree(name)['sample']['seed']}"])
    assert params.read_text(encoding="utf-8") == text, "nothing has changed"


@pytest.mark.parametrize("change", CHANGES)
def test_a_setting_that_dvc_or_the_dashboard_changes_is_one_line_of_the_diff(
    change: str, tmp_path: Path
) -> None:
    apply_overrides = pytest.importorskip("dvc.utils.hydra", reason="DVC is not installed").apply_overrides
    text, params = presets.text("shapes"), tmp_path / "params.yaml"
    params.write_text(text, encoding="utf-8")
    apply_overrides(params, [change])
    by_dvc, by_the_dashboard = params.read_text(encoding="utf-8"), with_value(text, change)[0]
    one_more = (0, 1) if "[" in change else (1, 1)
    assert _changed(text, by_dvc) == _changed(text, by_the_dashboard) == one_more
    of_dvc = read_tree(params)
    params.write_text(by_the_dashboard, encoding="utf-8")
    assert of_dvc == read_tree(params) != TREE


def test_the_base_is_the_shapes_preset_itself() -> None:
    assert presets.text("shapes") == (presets.FOLDER / "shapes.yaml").read_text(encoding="utf-8")
    for path in presets.FILES:
        own = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert path.stem == "shapes" or (presets.FOLDER / own["base"]).is_file()


def test_a_preset_replaces_committed_settings_and_other_presets(settings: Path) -> None:
    for name in ("one", "two", "two", "shapes"):
        take(name)
        assert settings.read_text() == rendered(name)


def test_settings_that_were_edited_stay(settings: Path) -> None:
    take("one")
    for text in (
        "name: edited\n",
        f"{settings.read_text()}# mine\n",
        settings.read_text().replace("1.0", "1.1"),
    ):
        settings.write_text(text)
        with pytest.raises(
            UserError, match="params.yaml has uncommitted edits: .*`git checkout params.yaml`"
        ):
            take("two")
        assert settings.read_text() == text


def test_a_preset_that_is_not_there_is_answered_with_those_that_are(settings: Path) -> None:
    with pytest.raises(UserError, match="there is no preset noe; expected one of coco, .*, one, "):
        take("noe")
    assert settings.read_text() == "name: mine\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("base: shapes.yaml\nmqvae: {stepz: 3}\n", "mqvae.stepz is not a setting. Did you mean steps?"),
        ("base: shapes.yaml\nmqvea: {steps: 3}\n", "mqvea is not a section. Did you mean mqvae?"),
        ("base: shapes.yaml\nmqvae: {model: {mask_ratoi: 0.5}}\n", "mask_ratoi is not a setting. Did you mean mask_ratio?"),
        ("base: shapes.yaml\nmqvae:\n", "mqvae is empty: expected settings of its own, such as steps"),
        ("base: shapes.yaml\nsample: {code: 0.9}\n", "sample.code is 0.9: expected settings of its own, such as temperature"),
        ("base: shapes.yaml\nmqvae: {steps: many}\n", 'mqvae.steps is "many": expected a valid integer'),
        ("base: shapes.yaml\nshard: {kind: folder}\n", "stackformer.condition is class, and shard.kind folder has no classes"),
        ("base: shape.yaml\n", "holds only its differences from shape.yaml, which is not in the same folder"),
        ("base: ../presets/shapes.yaml\n", "base is ../presets/shapes.yaml: expected the name of a params file"),
        ("base: wrong.yaml\n", "its bases form a cycle: wrong.yaml → wrong.yaml"),
        ("base: shapes.yaml\nmqvae: [\n", "is not YAML"),
        ("- 1\n", "holds no sections; expected a mapping like presets/shapes.yaml"),
        ("base: [1]\n", "expected the name of a params file in the same folder"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_preset_is_one_line_and_changes_nothing(settings: Path, text: str, said: str) -> None:
    _write("wrong", text)
    with pytest.raises(UserError, match="presets/wrong.yaml") as caught:
        take("wrong")
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert settings.read_text() == "name: mine\n"


def test_a_preset_of_a_preset_and_names_of_the_users_own_are_taken(settings: Path) -> None:
    _write("a", "base: one.yaml\nshard: {roles: {test: val}, columns: {label: Smiling}}\n")
    _write("b", "base: a.yaml\nshard: {roles: {extra: skip}}\nsample: {classes: [star, ring]}\n")
    take("b")
    made = yaml.safe_load(settings.read_text())
    assert made["shard"] | {"roles": {"extra": "skip"}, "columns": {"label": "Smiling"}} == made["shard"]
    assert made["sample"]["guidance_scale"] == 1.0 and made["sample"]["classes"] == ["star", "ring"]


def test_a_preset_that_is_copied_by_hand_is_told_how_it_is_taken(settings: Path) -> None:
    said = missing((presets.FOLDER / "faces.yaml").read_text(encoding="utf-8"), "params.yaml", "")
    assert said.startswith(
        "params.yaml holds only its differences from shapes.yaml: `make preset PRESET=NAME`"
    )


def test_what_params_differ_in_is_saved_as_a_preset_that_gives_them_back(settings: Path) -> None:
    text = with_value(
        with_value(presets.text("speedrun"), "shard.roles={test: val}")[0], "mqvae.learning_rate=1e-5"
    )[0]
    settings.write_text(text)
    save("mine")
    said = Path("presets", "mine.yaml").read_text()
    assert said.startswith("# mine: ") and len(said.splitlines()) < 45 and "train: 8000" not in said
    assert read_tree(Path("presets", "mine.yaml")) == read_tree(settings)
    for name in ("mine", "../mine"):
        with pytest.raises(UserError, match=f"presets/{name}.yaml exists, or is not a file of presets/"):
            save(name)
    settings.write_text(presets.text("tiny").replace("  deterministic: false ", "# "))
    with pytest.raises(UserError, match="params.yaml lacks settings that presets/shapes.yaml has"):
        save("less")
    assert not Path("presets", "less.yaml").exists()


@pytest.mark.parametrize("text", ["mqvae: [", "base: shapes.yaml\n", "- 1\n", "\x00"])
def test_a_params_file_that_cannot_be_read_is_one_line_before_any_work(settings: Path, text: str) -> None:
    settings.write_text(text)
    with pytest.raises(UserError, match="params.yaml") as caught:
        preset._look()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("shapes --out .", r"^\.: is a directory$"),
        ("flower", "^there is no preset flower; expected one of coco"),
        ("--source x", "^SOURCE and WEIGHTS go with a preset"),
    ],
)
def test_what_is_typed_wrong_is_one_line(
    settings: Path, monkeypatch: pytest.MonkeyPatch, words: str, said: str
) -> None:
    monkeypatch.setattr("sys.argv", ["preset", *words.split()])
    with pytest.raises(SystemExit, match=said):
        preset.main()
    assert settings.read_text() == "name: mine\n"


def test_a_whole_file_is_a_preset_too(settings: Path) -> None:
    _write("mine", presets.text("tiny").replace("# The whole", "# My whole"))
    take("mine")
    assert settings.read_text() == presets.text("tiny").replace("# The whole", "# My whole")


def _data() -> tuple[str, str]:
    """Images and weights that lie elsewhere."""
    Path("my images", "rose").mkdir(parents=True)
    Path("nets").mkdir()
    for net in ("squeezenet1_1", "lpips_squeeze_v0.1"):
        Path("nets", f"{net}.safetensors").touch()
    return "my images", "nets/"


def test_data_that_is_not_there_is_one_line_with_what_to_type_and_changes_nothing(settings: Path) -> None:
    with pytest.raises(UserError, match="reads images in data/flowers and weights in weights/") as caught:
        take("flowers")
    assert "`make repro PRESET=flowers SOURCE=/path/to/images WEIGHTS=/path/to/weights`" in str(caught.value)
    assert settings.read_text() == "name: mine\n"


def test_data_from_elsewhere_is_written_where_the_preset_has_its_own(settings: Path) -> None:
    source, weights = _data()
    for _ in range(2):  # the same line again finds its own work, no edit
        take("flowers", source, weights)
    made = yaml.safe_load(settings.read_text())
    assert made["shard"]["source"] == source
    assert (
        made["mqvae"]["perceptual"]["backbone"]
        == made["reference"]["weights"]
        == "nets/squeezenet1_1.safetensors"
    )
    text = settings.read_text()
    take("one")
    assert settings.read_text() == rendered("one")
    settings.write_text(text + "more: 1\n")
    with pytest.raises(UserError, match="uncommitted edits"):
        take("one")


def test_params_that_read_what_is_not_there_are_told_before_any_work(settings: Path) -> None:
    flowers = rendered("flowers")
    assert "params.yaml reads images in data/flowers" in missing(flowers, "params.yaml", "")
    assert "`python -m shards.list s3://bucket/x --out data/bucket-x-8092328c.listing`" in missing(
        "shard: {source: 's3://bucket/x'}", "params.yaml", ""
    )
    lost = "shard: {source: data/x.listing}"
    assert missing(lost, "params.yaml", "").endswith(
        "type `python -m shards.list FOLDER-OR-URL --out data/x.listing`"
    )
    Path("data").mkdir()
    Path("data/x.listing.dvc").touch()
    assert missing(lost, "params.yaml", "").endswith("does not exist: type `dvc pull data/x.listing`")
    for source in ("artifacts/shapes", "presets"):
        assert missing(f"shard: {{source: {source!r}}}", "params.yaml", "") == ""


def test_what_a_stage_depends_on_by_a_setting_is_looked_for_before_dvc_removes_its_outputs(
    settings: Path,
) -> None:
    """Every one of dvc.yaml's, a folder or a file, in `artifacts/` too; what a stage makes may still be made."""
    for pipeline in ("dvc.yaml", "demo/dvc.yaml"):
        Path(pipeline).parent.mkdir(exist_ok=True)
        Path(pipeline).write_bytes((ROOT / pipeline).read_bytes())
    lost = ("typo/model", "artifacts/typo", "typo/net.safetensors", "/data/typo")
    whole = yaml.safe_load(rendered("shapes"))
    assert len(NAMED_BY_SETTINGS) == 10
    few = itertools.product(NAMED_BY_SETTINGS, (lost[0], "presets"))
    for setting, value in [
        *few,
        *itertools.product(("shard.source", "mqvae.init_from"), (*lost[1:], "artifacts/shapes")),
    ]:
        tree = node = copy.deepcopy(whole)
        *above, last = setting.split(".")
        for name in above:
            node[name] = node[name] if isinstance(node[name], dict) else {}
            node = node[name]
        node[last] = value
        said = missing(json.dumps(tree), "params.yaml", "")
        assert bool(said) == (value in lost), (setting, value, said)
        assert not said or (said.startswith("params.yaml reads ") and value in said and "\n" not in said)


def test_a_pattern_of_tars_becomes_a_folder_that_dvc_watches_and_what_matches_in_it(settings: Path) -> None:
    Path("my tars").mkdir()
    for _ in range(2):
        take("shapes_uncond", "my tars/{000..099}.tar")
    made = yaml.safe_load(settings.read_text())
    assert (made["shard"]["source"], made["shard"]["tars"]) == ("my tars", "{000..099}.tar")
    take("one")
    for source, folder, pattern in (
        ("a/b/*.tar", "a/b", "*.tar"),
        ("*.tar", ".", "*.tar"),
        ("/a/{b,c}/0.tar", "/a", "{b,c}/0.tar"),
    ):
        said = missing(f"shard: {{source: {source!r}}}", "params.yaml", "")
        assert f"write `source: {folder}` and `tars: '{pattern}'` there" in said and "\n" not in said


@pytest.mark.parametrize("name", [path.stem for path in presets.FILES])
def test_each_preset_tells_what_it_lacks(name: str, settings: Path) -> None:
    text = presets.text(name)
    said = missing(text, f"presets/{name}.yaml", f"PRESET={name} ")
    drawn = "source: artifacts/shapes" in text
    assert (said == "") is drawn
    assert drawn or f"`make repro PRESET={name} SOURCE=/path/to/images" in said
    assert ("WEIGHTS=" in said) is (".safetensors" in text)


def test_the_makefile_takes_presets_by_the_command_that_is_tested_here() -> None:
    assert "@python -m workflow.preset $(PRESET)" in (ROOT / "Makefile").read_text(encoding="utf-8")
