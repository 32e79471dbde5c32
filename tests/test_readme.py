"""README's commands exist and its links lead somewhere; what they do is run for real in test_workflow.py."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
MODULES = sorted(set(re.findall(r"python -m ([a-z_.]+)", TEXT)))


@pytest.mark.parametrize("module", MODULES)
def test_each_module_that_is_named_has_a_help(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: ")


def test_each_make_target_is_in_the_makefile() -> None:
    rules = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"^make ([a-z]+)", TEXT, re.MULTILINE)):
        assert re.search(rf"^{target}:.*## ", rules, re.MULTILINE), target


def test_each_setting_that_is_named_is_in_params() -> None:
    tree = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for name in set(re.findall(r"(?:-S|--set) ([a-z_.]+)=", TEXT)):
        node = tree
        for key in name.split("."):
            assert key in node, name
            node = node[key]


def test_each_link_and_preset_leads_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", TEXT):
        assert (ROOT / target).exists(), target
    for name in re.findall(r"PRESET=([a-z_]+)", TEXT):
        assert (ROOT / "presets" / f"{name}.yaml").is_file(), name


@pytest.mark.parametrize(
    "row", re.findall(r"^\|.*\| ([0-9.]+) \| `(\w+): (\w+)` \|$", TEXT, re.MULTILINE), ids=":".join
)
def test_each_result_is_the_committed_runs(row: tuple[str, str, str]) -> None:
    said, stage, name = row
    metrics = json.loads((ROOT / "metrics" / stage / "metrics.json").read_text(encoding="utf-8"))
    digits = len(said.partition(".")[2])
    assert said == f"{metrics[name]:.{digits}f}"


def test_the_results_are_there() -> None:
    assert len(re.findall(r"^\|.*\| [0-9.]+ \| `\w+: \w+` \|$", TEXT, re.MULTILINE)) >= 10
