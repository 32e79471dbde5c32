"""README's commands exist and its links lead somewhere; what they do is run for real in test_workflow.py."""

import json
import re
from pathlib import Path

import yaml

from tests import committed
from tests.committed import ROOT
from tests.helps import helps

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
MODULES = sorted(set(re.findall(r"python -m ([a-z_.]+)", TEXT)))


def test_each_module_that_is_named_has_a_help(tmp_path: Path) -> None:
    assert list(helps(MODULES, tmp_path)) == MODULES


def test_each_make_target_is_in_the_makefile() -> None:
    rules = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"^make ([a-z]+)", TEXT, re.MULTILINE)):
        assert re.search(rf"^{target}:.*## ", rules, re.MULTILINE), target


def test_each_setting_that_is_named_is_in_params() -> None:
    tree = yaml.safe_load((ROOT / "presets" / "shapes.yaml").read_text(encoding="utf-8"))
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


def results_said(readme: str) -> list[tuple[str, str, str]]:
    """Each number of README's table, with the stage and the name that it is read from."""
    return re.findall(r"^\|.*\| ([0-9.]+) \| `(\w+): (\w+)` \|$", readme, re.MULTILINE)


def differing(commit: str) -> list[str]:
    """The results that README and metrics/ of a commit do not agree on."""
    found = []
    for said, stage, name in results_said(committed.text("README.md", commit)):
        number = json.loads(committed.text(f"metrics/{stage}/metrics.json", commit))[name]
        expected = f"{number:.{len(said.partition('.')[2])}f}"
        found += [] if said == expected else [f"{stage}: {name} is {expected}, README says {said}"]
    return found


def test_each_result_is_the_committed_runs() -> None:
    tried = [differing(commit) for commit in committed.commits_that_may_agree("README.md")]
    assert [] in tried, tried[0]


def test_the_results_are_there() -> None:
    assert len(results_said(TEXT)) >= 10
