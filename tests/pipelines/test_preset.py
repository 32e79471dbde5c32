"""Taking a preset never loses a setting that somebody wrote."""

import subprocess
from pathlib import Path

import pytest

from pipelines.preset import take


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
    assert "params.yaml has uncommitted edits" in take("one")
    assert settings.read_text() == "name: edited\n"


def test_a_preset_that_is_not_there_is_answered_with_those_that_are(settings: Path) -> None:
    assert take("noe") == "there is no preset noe; expected one of one, two"
    assert settings.read_text() == "name: mine\n"
