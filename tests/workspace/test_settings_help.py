"""`--help` of a stage lists its settings; what it says of their ranges is what the settings enforce."""

import copy
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import yaml

from workflow.params import Params
from workspace.errors import UserError
from workspace.settings import validate_section
from workspace.settings_help import Knob, knobs, settings_text

ROOT = Path(__file__).resolve().parents[2]
PARAMS = ROOT / "presets" / "shapes.yaml"
KINDS = get_type_hints(Params)
TREE: dict[str, Any] = yaml.safe_load(PARAMS.read_text(encoding="utf-8"))
LEAVES = [knob for section, kind in KINDS.items() for knob in knobs(section, kind)]
NUMBERS = [knob for knob in LEAVES if re.match(r"(list of )?([0-9] × )?(whole )?number", knob.type)]
BOUND = re.compile(r"([≥>≤<]) ([0-9.]+)")


def leaves(value: Any, name: str) -> list[str]:
    """Dotted names of everything in a params file that is not a mapping of settings."""
    if not isinstance(value, dict) or not value:
        return [name]
    return [
        found for key, inner in value.items() for found in leaves(inner, f"{name}.{key}" if name else key)
    ]


def test_the_help_names_every_setting_of_the_file_and_no_other() -> None:
    assert sorted(knob.name for knob in LEAVES) == sorted(leaves(TREE, ""))


@pytest.mark.parametrize("knob", LEAVES, ids=lambda knob: knob.name)
def test_each_setting_is_described(knob: Knob) -> None:
    assert len(knob.about) > 3 or knob.type == "true or false"


@pytest.mark.parametrize("knob", NUMBERS, ids=lambda knob: knob.name)
def test_a_number_outside_of_the_range_that_the_help_states_is_refused_by_name(knob: Knob) -> None:
    bounds = BOUND.findall(knob.range)
    assert bounds, f"{knob.name} states no range"
    for sign, bound in bounds:
        step = 1 if knob.type.startswith(("whole", "list of whole")) else 1e-3
        outside = float(bound) + {"≥": -step, ">": 0, "≤": step, "<": 0}[sign]
        section, tree = knob.name.split(".")[0], copy.deepcopy(TREE)
        *parents, last = knob.name.split(".")
        node = tree
        for key in parents:
            node = node[key]
        number = int(outside) if "whole" in knob.type else outside
        node[last] = [number] * len(node[last]) if isinstance(node[last], list) else number
        with pytest.raises(UserError, match=last):
            validate_section(PARAMS, KINDS[section], tree[section])


def test_present_values_are_those_of_the_file_that_is_named(tmp_path: Path) -> None:
    params = tmp_path / "mine.yaml"
    params.write_text(PARAMS.read_text(encoding="utf-8").replace("mask_ratio: 0.5 ", "mask_ratio: 0.25 "))
    text = settings_text(KINDS["mqvae"], params)
    assert "mqvae.model.mask_ratio = 0.25\n      number, ≥ 0, < 1: share of the cells" in text
    assert "one of fp32, tf32, bf16, fp16, float64" in text and "compute.workers = 2" in text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "does not exist"),
        ("mqvae: [", "is not YAML"),
        ("- 1\n", "holds no sections"),
        ("compute: {}\n", "mqvae"),
        (
            PARAMS.read_text(encoding="utf-8").replace("mask_ratio", "mask_ratoi"),
            "mask_ratoi is not a setting. Did you mean",
        ),
    ],
)
def test_a_file_that_is_missing_or_wrong_is_told_and_the_settings_listed_all_the_same(
    tmp_path: Path, text: str | None, words: str
) -> None:
    params = tmp_path / "params.yaml"
    if text is not None:
        params.write_text(text, encoding="utf-8")
    said = settings_text(KINDS["mqvae"], params)
    assert words in next(line for line in said.splitlines() if line.startswith("  ! "))
    assert "  mqvae.model.mask_ratio\n" in said or "  mqvae.model.mask_ratio = " in said


def test_help_needs_neither_params_nor_pipeline(tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").write_text("stages: [", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "stages.report", "--help"],
        cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "  report.title\n      text: title of the page" in done.stdout
    assert "--samples SAMPLES" in done.stdout
