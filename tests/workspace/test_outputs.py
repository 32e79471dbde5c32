"""A stage that DVC starts and that then makes nothing leaves the artifact of before where it was, to the byte."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from tests import presets
from tests.committed import ROOT
from tests.tiny import BIN, copy_of, environment, finished_repository, run
from tests.typed import typed
from tests.waiting import matching, slowness, until
from workflow import running
from workflow.command_line import parser_of
from workflow.stage import stage_named
from workspace.errors import UserError
from workspace.outputs import KEPT, folder_hash, put_back
from workspace.settings import STAGES

pytest.importorskip("dvc", reason="DVC is not installed")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the finished repository to change; each test leaves it as it was."""
    return copy_of(finished_repository(tmp_path_factory), tmp_path_factory.mktemp("outputs") / "repository")


def commands(repository: Path) -> dict[str, list[str]]:
    """The words of each stage's command."""
    trees = [yaml.safe_load((repository / name).read_text()) for name in ("dvc.yaml", "demo/dvc.yaml")]
    return {name: shlex.split(stage["cmd"]) for tree in trees for name, stage in tree["stages"].items()}


def content(repository: Path) -> dict[str, bytes]:
    paths = (path for top in ("artifacts", "metrics") for path in (repository / top).rglob("*"))
    return {str(path.relative_to(repository)): path.read_bytes() for path in paths if path.is_file()}


def outputs_of(command: list[str]) -> list[str]:
    return [value for word, value in pairwise(command) if word in ("--out", "--metrics")]


@pytest.mark.parametrize("stage", STAGES)
def test_a_folders_hash_is_dvcs(repository: Path, stage: str) -> None:
    lock = yaml.safe_load((repository / ("demo" if stage == "draw_shapes" else ".") / "dvc.lock").read_text())
    outs = {out["path"]: out["md5"] for out in lock["stages"][stage]["outs"]}
    assert outs == {name: folder_hash(repository / name) for name in outputs_of(commands(repository)[stage])}


@pytest.mark.parametrize(
    ("stage", "setting", "words"),
    [
        ("train_stackformer", "stackformer.model.width=17", "width 17 is not a multiple of heads 2"),
        ("draw_shapes", "shapes.radius=[0.4,0.3]", "expected smallest ≤ largest < 0.5"),
        ("reference", "reference.max_images=1", "reference.max_images is 1, expected ≥ 4, or null"),
        ("tokenize", "tokenize.text_vocab=300", "text_vocab is 300 and text_length 0"),
    ],
)
def test_a_refused_setting_costs_no_artifact(repository: Path, stage: str, setting: str, words: str) -> None:
    before, params = content(repository), (repository / "params.yaml").read_bytes()
    address = "demo/dvc.yaml:draw_shapes" if stage == "draw_shapes" else stage
    try:
        set_in(repository, setting)
        said = typed(repository, "dvc", "repro", "--single-item", address, check=False)
        assert words in said and "restored as it was before DVC removed it" in said, said
        assert content(repository) == before
        assert run(repository, "git", "status", "--short").split() == ["M", "params.yaml"]
    finally:
        (repository / "params.yaml").write_bytes(params)


REFUSALS = {
    "an unknown setting": ({f"{stage_named(name).settings.SECTION}.typo": 1 for name in STAGES}, "is not a setting"),
    "a value out of range": ({"shapes.train": -1, "shard.image_size": 0, "mqvae.steps": 0, "stackformer.steps": 0}, "expected"),
    "a source that is missing": ({"shard.source": "data/gone"}, "data/gone"),
    "a listing that is missing": ({"shard.source": "data/gone.listing"}, "data/gone.listing"),
    "a table that is missing": ({"shard.tables": ["gone.csv"]}, "gone|artifacts/shapes"),
    "weights that are missing": (
        {"mqvae.init_from": "gone/mqvae", "stackformer.init_from": "gone/stackformer", "reference.weights": "gone/net.pt"},
        "gone/",
    ),
    "an artifact that is missing": ({}, "does not exist|is missing|holds no"),
}  # fmt: skip
"""Kind of refusal → settings, of which each stage has its own section's, and what is said."""


@pytest.mark.parametrize("stage", STAGES)
def test_whatever_a_stage_refuses_its_outputs_come_back(
    stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As DVC leaves a workspace: without the stage's outputs, but with a lock file and the copies that stages keep."""
    command = commands(ROOT)[stage]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_STAGE", stage)
    (tmp_path / "demo").mkdir()
    for name in ("dvc.yaml", "demo/dvc.yaml"):
        shutil.copyfile(ROOT / name, name)
    outs = outputs_of(command)
    for out in outs:
        (KEPT / out).mkdir(parents=True)
        (KEPT / out / "x").write_text(f"{out} of before")
    known = [{"path": out, "md5": folder_hash(KEPT / out)} for out in outs]
    Path("dvc.lock").write_text(yaml.safe_dump({"stages": {stage: {"outs": known}}}))
    section, tried = stage_named(stage).settings.SECTION, 0
    for settings, words in REFUSALS.values():
        own = {name: value for name, value in settings.items() if name.startswith(f"{section}.")}
        if settings and not own or not settings and stage in ("draw_shapes", "report"):
            continue
        tree = presets.tree("tiny")
        tree[section] |= {name.partition(".")[2]: value for name, value in own.items()}
        Path("params.yaml").write_text(json.dumps(tree))
        with pytest.raises(UserError, match=words):
            running.run(stage_named(stage), parser_of(stage_named(stage)).parse_args(command[3:]))
        put_back(command)
        assert {out: Path(out, "x").read_text() for out in outs} == {out: f"{out} of before" for out in outs}
        for out in outs:
            shutil.rmtree(out)
        tried += 1
    assert tried >= (2 if section != "report" else 1)


def set_in(repository: Path, setting: str) -> None:
    """As `dvc exp run -S` does."""
    from dvc.utils.serialize import modify_yaml

    name, _, value = setting.partition("=")
    *parents, last = name.split(".")
    with modify_yaml(str(repository / "params.yaml")) as node:
        for key in parents:
            node = node[key]
        node[last] = yaml.safe_load(value)


def test_a_mistake_in_the_code_costs_no_artifact(repository: Path) -> None:
    before, code = content(repository), repository / "models/mqvae/masker.py"
    text = code.read_text(encoding="utf-8")
    try:
        code.write_text(text + "\ndef (\n", encoding="utf-8")
        said = typed(repository, "dvc", "repro", "--single-item", "train_mqvae", check=False)
        assert "SyntaxError" in said and "artifacts/mqvae, metrics/train_mqvae: restored as it was" in said
        assert content(repository) == before
    finally:
        code.write_text(text, encoding="utf-8")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_training_that_is_stopped_leaves_the_artifact_of_before(
    repository: Path, number: signal.Signals
) -> None:
    before, params = content(repository), (repository / "params.yaml").read_bytes()
    for path in (repository / ".runs" / "train_stackformer").glob("*"):  # of the other signal
        if not (path / "done.json").is_file():
            shutil.rmtree(path)
    try:
        set_in(repository, "stackformer.steps=100000")
        process = subprocess.Popen(
            [str(BIN / "dvc"), "repro", "--single-item", "train_stackformer"],
            cwd=repository, env=environment(repository), start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        curves = wait_for(repository, process)
        assert not (repository / "artifacts" / "stackformer").exists()
        pid = int(re.findall(r"\d+", subprocess.run(
            ["pgrep", "-f", "-g", str(process.pid), "stages.train_stackformer"], capture_output=True, text=True, check=True
        ).stdout)[-1])  # fmt: skip
        os.kill(pid, number)
        said, _ = process.communicate(timeout=120 * slowness())
        assert process.returncode and "restored as it was before DVC removed it" in said, said
        assert content(repository) == before and curves.is_file()
    finally:
        (repository / "params.yaml").write_bytes(params)


def wait_for(repository: Path, process: "subprocess.Popen[str]") -> Path:
    """Until the training has made a step."""
    folder = repository / ".runs" / "train_stackformer"

    def begun() -> list[Path]:
        assert process.poll() is None, process.communicate()[0]
        return [
            path for path in matching(folder, "*/progress.json") if not (path.parent / "done.json").is_file()
        ]

    return until(begun, 120)[0]


def test_nothing_is_put_back_that_dvc_does_not_know(repository: Path) -> None:
    """An artifact that was changed by hand is not an artifact of dvc.lock; and what was never there does not come."""
    command = commands(repository)["evaluate"]
    lines = [
        "import sys, os",
        "os.environ['DVC_STAGE'] = 'evaluate'",
        "from workspace.outputs import put_back",
    ]
    lines += [
        f"put_back({['--out', 'artifacts/new', '--metrics', 'metrics/new']!r})",
        f"put_back({command!r})",
    ]
    before = content(repository)
    assert run(repository, "python", "-c", "\n".join(lines)) == ""
    assert content(repository) == before


def test_outside_of_dvc_nothing_is_put_back(repository: Path) -> None:
    moved = repository / "artifacts" / "evaluation"
    moved.rename(repository / "aside")
    try:
        said = run(repository, "python", "-m", "stages.evaluate", "--samples", "nowhere", check=False)
        assert "nowhere" in said and not moved.exists()
    finally:
        (repository / "aside").rename(moved)


def test_what_no_copy_is_left_of_is_said(repository: Path) -> None:
    place = repository / "artifacts" / "evaluation"
    place.rename(repository / "aside")
    cache = repository / ".dvc" / "cache"
    cache.rename(repository / "away")
    try:
        line = "import os; os.environ['DVC_STAGE'] = 'evaluate'; from workspace.outputs import put_back; "
        said = run(repository, "python", "-c", f"{line}put_back(['--out', 'artifacts/evaluation'])")
        assert "artifacts/evaluation: removed by DVC, and no copy is left" in said and not place.exists()
    finally:
        shutil.rmtree(cache, ignore_errors=True)
        (repository / "away").rename(cache)
        (repository / "aside").rename(place)
