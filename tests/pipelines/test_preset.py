"""Taking a preset never loses a setting that somebody wrote."""

import subprocess
from pathlib import Path

import pytest

from pipelines.preset import missing, take

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """params.yaml, committed, beside two presets."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "presets").mkdir()
    for name in ("one", "two"):
        (tmp_path / "presets" / f"{name}.yaml").write_text(f"name: {name}\n")
    (tmp_path / "params.yaml").write_text("name: mine\n")
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@example.invalid"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "start"]):
        subprocess.run([*git, *command], check=True, capture_output=True)
    return tmp_path / "params.yaml"


def test_a_preset_replaces_committed_settings_and_other_presets(settings: Path) -> None:
    for name in ("one", "two", "two"):
        assert take(name) == ""
        assert settings.read_text() == f"name: {name}\n"


def test_settings_that_were_edited_stay(settings: Path) -> None:
    settings.write_text("name: edited\n")
    said = take("one")
    assert (
        "params.yaml has uncommitted edits" in said
        and "`git checkout params.yaml`" in said
        and "\n" not in said
    )
    assert settings.read_text() == "name: edited\n"


def test_a_preset_that_is_not_there_is_answered_with_those_that_are(settings: Path) -> None:
    assert take("noe") == "there is no preset noe; expected one of one, two"
    assert settings.read_text() == "name: mine\n"


FLOWERS = """shard:
  kind: class_folder
  source: data/flowers
reference:
  weights: weights/net.safetensors   # a path
mqvae: {perceptual: {backbone: weights/net.safetensors, heads: null}}
"""


@pytest.fixture
def flowers(settings: Path) -> Path:
    (settings.parent / "presets" / "flowers.yaml").write_text(FLOWERS)
    return settings


def test_data_that_is_not_there_is_one_line_with_what_to_type_and_changes_nothing(flowers: Path) -> None:
    said = take("flowers")
    assert "reads images in data/flowers and weights in weights/net.safetensors, which are not there" in said
    assert (
        "`make repro PRESET=flowers SOURCE=/path/to/images WEIGHTS=/path/to/weights`" in said
        and "\n" not in said
    )
    assert flowers.read_text() == "name: mine\n"


def test_data_from_elsewhere_is_written_where_the_preset_has_its_own(flowers: Path, tmp_path: Path) -> None:
    (tmp_path / "my images").mkdir()
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "net.safetensors").touch()
    for _ in range(2):  # the same line again finds its own work, no edit
        assert take("flowers", "my images", "nets/") == ""
    text = flowers.read_text()
    assert '  source: "my images"\n' in text and "backbone: nets/net.safetensors," in text
    assert "weights: nets/net.safetensors   # a path" in text
    assert take("one") == "" and flowers.read_text() == "name: one\n"
    flowers.write_text(text + "more: 1\n")
    assert "uncommitted edits" in take("one")


def test_params_that_read_what_is_not_there_are_told_before_any_work(flowers: Path) -> None:
    assert "params.yaml reads images in data/flowers" in missing(FLOWERS, "params.yaml", "")
    for source in ("artifacts/shapes", "s3://bucket/x", "presets"):
        assert missing(f"shard: {{source: {source!r}}}", "params.yaml", "") == ""


def test_a_pattern_of_tars_becomes_a_folder_that_dvc_watches_and_what_matches_in_it(flowers: Path) -> None:
    (flowers.parent / "my tars").mkdir()
    text = FLOWERS.replace("data/flowers", "x\n  tars: null   # a glob").replace(
        "weights/net.safetensors", "null"
    )
    (flowers.parent / "presets" / "flowers.yaml").write_text(text)
    for _ in range(2):
        assert take("flowers", "my tars/{000..099}.tar") == ""
    assert '  source: "my tars"\n  tars: "{000..099}.tar"\n' in flowers.read_text()
    assert take("one") == "" and flowers.read_text() == "name: one\n"
    for source, folder, pattern in (
        ("a/b/*.tar", "a/b", "*.tar"),
        ("*.tar", ".", "*.tar"),
        ("/a/{b,c}/0.tar", "/a", "{b,c}/0.tar"),
    ):
        said = missing(f"shard: {{source: {source!r}}}", "params.yaml", "")
        assert f"write `source: {folder}` and `tars: '{pattern}'` there" in said and "\n" not in said


@pytest.mark.parametrize("preset", sorted((ROOT / "presets").glob("*.yaml")), ids=lambda path: path.stem)
def test_each_preset_tells_what_it_lacks(preset: Path, settings: Path) -> None:
    text = preset.read_text(encoding="utf-8")
    said = missing(text, f"presets/{preset.name}", f"PRESET={preset.stem} ")
    drawn = "source: artifacts/shapes" in text
    assert (said == "") is drawn
    assert drawn or f"`make repro PRESET={preset.stem} SOURCE=/path/to/images" in said
    assert ("WEIGHTS=" in said) is (".safetensors" in text)
