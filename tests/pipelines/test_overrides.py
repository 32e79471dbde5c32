"""A run's settings are in params.yaml while it runs and gone from it afterwards, whatever ends it and whoever edits meanwhile."""

import os
import signal
import subprocess
import sys
from contextlib import nullcontext
from functools import cache
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("dvc", reason="DVC is not installed")

from pipelines import overrides  # noqa: E402
from pipelines.errors import RefusedError  # noqa: E402
from pipelines.home import lock  # noqa: E402
from pipelines.overrides import JOURNAL, WORKSPACE, apply_again, overridden, restore, take_back  # noqa: E402
from pipelines.params import differences, set_params, span, with_value  # noqa: E402
from tests import presets  # noqa: E402
from tests.committed import ROOT  # noqa: E402
from tests.waiting import until  # noqa: E402

BLOCKS = """\
a:   # a comment
  - x
  - y   # the last one

# about b
b:
- {c: 1}
text: |
  some
  lines
none:
quoted: 'a: b'
"""


@cache
def preset_texts() -> list[str]:
    """Each preset, written out in full and as it is."""
    whole = [presets.text(path.stem) for path in presets.FILES]
    return whole + [path.read_text(encoding="utf-8") for path in presets.FILES]


def keys(value: object, place: str = "") -> list[str]:
    """Every key of a tree, dotted."""
    if not isinstance(value, dict):
        return []
    own = {f"{place}{name}": inner for name, inner in value.items()}
    return [key for name, inner in own.items() for key in (name, *keys(inner, f"{name}."))]


values = st.sampled_from(
    ["2", "1e-5", "2.5", "true", "null", "", "name", "[1, 2]", "{x: [1, {y: z}]}", "'a: b'", "../x y"]
)


@given(st.data())
def test_a_setting_changes_its_value_alone_and_is_taken_back_to_the_byte(data: st.DataObject) -> None:
    text = data.draw(st.sampled_from([*preset_texts(), BLOCKS, BLOCKS.replace("\n", "\r\n")]))
    change = f"{data.draw(st.sampled_from(keys(yaml.safe_load(text))))}={data.draw(values)}"
    changed, old, new = with_value(text, change)
    start, end = span(changed, change.split("=")[0])
    assert changed[start:end] == new and changed[:start] + old + changed[end:] == text
    assert [line for line in text.splitlines() if line.startswith("#")] == [
        line for line in changed.splitlines() if line.startswith("#")] or "\n" in old  # fmt: skip


def test_settings_are_written_with_comments_kept(project: Path) -> None:
    set_params(project, ["other=bad.sh", "deep.value=2.5"])
    text = (project / "params.yaml").read_text()
    assert text == "# what the third stage runs\nother: bad.sh   # a script\ndeep: {value: 2.5}\n"
    for change in ("othr=1", "deep.valeu=1", "other.x=1", "other"):
        with pytest.raises(RefusedError, match=f"-S {change}: expected KEY=VALUE with a key of params.yaml"):
            set_params(project, ["deep.value=3", change])
    assert (project / "params.yaml").read_text() == text


def test_a_value_that_an_anchor_shares_is_not_changed_behind_its_back() -> None:
    with pytest.raises(RefusedError, match="params.yaml shares this value by an anchor"):
        with_value("a: &x {b: 1}\nc: *x\n", "c.b=2")


def test_a_runs_settings_end_with_it_whether_it_ends_well_or_not(project: Path) -> None:
    before = (project / "params.yaml").read_bytes()
    for ends in (nullcontext(), pytest.raises(RuntimeError, match="the stage fails")):
        with ends, lock(project / WORKSPACE), overridden(project, ["deep.value=7", "deep.value=8"]):
            assert yaml.safe_load((project / "params.yaml").read_text())["deep"]["value"] == 8
            assert differences(project) == [("deep.value", "1", "8")]
            if not isinstance(ends, nullcontext):
                raise RuntimeError("the stage fails")
        assert (project / "params.yaml").read_bytes() == before and not (project / JOURNAL).exists()
    assert differences(project) == []


def test_what_the_user_writes_meanwhile_stays_and_the_run_keeps_its_settings(project: Path) -> None:
    file = project / "params.yaml"
    file.write_text(file.read_text() + "mine: 1   # not committed\n")
    with lock(project / WORKSPACE), overridden(project, ["deep.value=7"]):
        file.write_text(file.read_text().replace("fine.sh", "better.sh").replace("mine: 1", "mine: 2"))
        apply_again(project)
        assert yaml.safe_load(file.read_text()) == {"other": "better.sh", "deep": {"value": 7}, "mine": 2}
        file.write_text(file.read_text().replace("value: 7", "value: 3"))  # an editor that was open before
        apply_again(project)
        assert "{value: 7}" in file.read_text(), "the next stage still has the run's setting"
    assert yaml.safe_load(file.read_text()) == {"other": "better.sh", "deep": {"value": 3}, "mine": 2}
    assert "mine: 2   # not committed" in file.read_text() and "# a script" in file.read_text()


@pytest.mark.parametrize(
    "edit",
    ["", "deep: {vale: 1}\n", "deep: {value: 4}\nother: [\n"],
    ids=["gone", "another key", "half written"],
)
def test_a_file_without_the_key_is_left_as_the_user_wrote_it(project: Path, edit: str) -> None:
    with lock(project / WORKSPACE), overridden(project, ["deep.value=7"]):
        (project / "params.yaml").write_text(edit)
    assert (project / "params.yaml").read_text() == edit and not (project / JOURNAL).exists()


KILLED = """
import os, sys, time
from pathlib import Path
from pipelines.home import lock
from pipelines.overrides import WORKSPACE, overridden
with lock(Path() / WORKSPACE) as file, overridden(Path(), ["deep.value=7"]):
    if sys.argv[1] == "stage":
        os.set_inheritable(file.fileno(), True)
        if os.fork() == 0:  # a stage's guard, which has the lock too
            while not Path("over").exists():
                time.sleep(0.02)
            os._exit(0)
    Path("started").touch()
    time.sleep(600)
"""


def killed_run(project: Path, *arguments: str) -> "subprocess.Popen[bytes]":
    """A run that has its settings in params.yaml, and is killed."""
    run = subprocess.Popen(
        [sys.executable, "-c", KILLED, *arguments], cwd=project, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    until((project / "started").exists, 60)
    assert "{value: 7}" in (project / "params.yaml").read_text()
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    return run


def test_a_killed_runs_settings_are_taken_back_by_its_keeper_once_its_stage_is_gone(project: Path) -> None:
    before = (project / "params.yaml").read_text()
    killed_run(project, "stage")
    assert restore(project) == [] and "{value: 7}" in (project / "params.yaml").read_text(), (
        "its stage still reads them"
    )
    (project / "over").touch()
    until(lambda: (project / "params.yaml").read_text() == before, 60)
    until(lambda: not (project / JOURNAL).exists(), 60)


def test_what_even_the_keeper_did_not_live_to_take_back_the_next_start_does(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (project / "params.yaml").read_text()
    monkeypatch.setattr(overrides, "take_back", lambda root: [])  # everything is killed at once
    with lock(project / WORKSPACE), overridden(project, ["deep.value=7"]):
        pass
    monkeypatch.undo()
    os.chdir(project)
    assert "{value: 7}" in (project / "params.yaml").read_text()
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.overrides"],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert (
        done.stdout
        == "params.yaml: deep.value=7 was a killed run's setting; the previous value is restored\n"
    )
    assert (project / "params.yaml").read_text() == before and take_back(project) == []
