"""README's commands exist, links lead somewhere, numbers are the committed run's; test_readme_rows.py runs the commands."""

import json
import re
import runpy
from pathlib import Path

import pytest
import yaml

from tests import committed
from tests.committed import ROOT
from tests.helps import helps

PAGES = ("README.md", "docs/commands.md", "CONTRIBUTING.md")
NUMBERS = ("README.md", "docs/results.md")
TEXTS = {name: (ROOT / name).read_text(encoding="utf-8") for name in (*PAGES, "docs/results.md")}
TEXT = "\n".join(TEXTS[name] for name in PAGES)
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
    for page, text in TEXTS.items():
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
            assert ((ROOT / page).parent / target).exists(), f"{page}: {target}"
    for name in re.findall(r"PRESET=([a-z_]+)", TEXT):
        assert (ROOT / "presets" / f"{name}.yaml").is_file(), name


def results_said(page: str) -> list[tuple[str, str, str]]:
    """Each number of a page's table, with the stage and the name that it is read from."""
    return re.findall(r"^\|.*\| ([0-9.]+) \| `(\w+): (\w+)` \|$", page, re.MULTILINE)


def differing(page: str, commit: str) -> list[str]:
    """The results that a page and metrics/ of a commit do not agree on."""
    found = []
    for said, stage, name in results_said(committed.text(page, commit)):
        number = json.loads(committed.text(f"metrics/{stage}/metrics.json", commit))[name]
        expected = f"{number:.{len(said.partition('.')[2])}f}"
        found += [] if said == expected else [f"{stage}: {name} is {expected}, {page} says {said}"]
    return found


@pytest.mark.parametrize("page", NUMBERS)
def test_each_result_is_the_committed_runs(page: str) -> None:
    tried = [differing(page, commit) for commit in committed.commits_that_may_agree(page)]
    assert [] in tried, f"run `python docs/numbers.py`: {tried[0]}"


def test_the_results_are_there() -> None:
    assert len(results_said(TEXTS["README.md"])) >= 6 and len(results_said(TEXTS["docs/results.md"])) >= 15


def test_the_page_of_the_library_is_rendered_from_what_is_there() -> None:
    text = runpy.run_path(str(ROOT / "docs" / "api.py"))["page"]()
    assert "### `MQVAE.tokenize(" in text and "**Raises**" in text
    shown = set(
        re.findall(r"^## (\w+)$", (ROOT / "docs" / "api.md").read_text(encoding="utf-8"), re.MULTILINE)
    )
    assert shown == set(re.findall(r"^## (\w+)$", text, re.MULTILINE)), "run `make docs`"


def test_the_front_door_fits_two_screens() -> None:
    assert len(TEXTS["README.md"].splitlines()) <= 130


@pytest.mark.parametrize("page", NUMBERS)
def test_numbers_of_another_run_are_written_with_as_many_decimals(page: str, tmp_path: Path) -> None:
    numbers = runpy.run_path(str(ROOT / "docs" / "numbers.py"))
    said = results_said(TEXTS[page])
    for stage in {stage for _, stage, _ in said}:
        (tmp_path / stage).mkdir()
        values = {name: float(value) + 0.25 for value, at, name in said if at == stage}
        (tmp_path / stage / "metrics.json").write_text(json.dumps(values), encoding="utf-8")
    written = results_said(numbers["rewritten"](TEXTS[page], tmp_path))
    expected = [f"{float(value) + 0.25:.{len(value.partition('.')[2])}f}" for value, _, _ in said]
    assert [value for value, _, _ in written] == expected
