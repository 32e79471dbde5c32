"""Rows 12 and 13: the settings that they run are valid, and their charts show the figures."""

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from benchmarks.plot import line_chart
from benchmarks.row_12_growth import settings_of
from benchmarks.row_13_figure_6b import RATIOS, config_of
from benchmarks.table import charts
from workflow.params import load_params

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("images", [300, 6000])
def test_the_settings_of_the_memory_row_are_valid(tmp_path: Path, images: int) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(yaml.safe_dump(settings_of(images)), encoding="utf-8")
    params = load_params(file)
    assert params.shapes.train == images
    assert params.compute.workers == 0


def test_half_masked_keeps_half_and_nothing_masked_is_a_raster_gpt_of_the_same_depth() -> None:
    configs = [config_of(ratio) for ratio in RATIOS]
    assert [config.num_kept for config in configs] == [256, 192, 128, 64]
    assert {config.network.code_layers + config.network.position_layers for config in configs} == {16}
    assert [config.network.position_layers for config in configs] == [0, 4, 4, 4]


@pytest.mark.parametrize("logarithmic", [False, True])
def test_a_chart_has_a_line_and_a_dot_for_each_point_and_higher_values_stand_higher(
    logarithmic: bool,
) -> None:
    text = line_chart("a < b", "x", "y", {"one": [(0, 1), (10, 100)], "two": [(5, 7)]}, logarithmic)
    tree = ElementTree.fromstring(text)
    dots = [(float(dot.get("cx", "")), float(dot.get("cy", ""))) for dot in tree.iter(f"{SVG}circle")]
    assert len(list(tree.iter(f"{SVG}polyline"))) == 2 and len(dots) == 3
    assert dots[0][0] < dots[2][0] < dots[1][0] and dots[0][1] > dots[2][1] > dots[1][1]
    assert {"a < b", "one", "two", "x", "y"} <= {each.text for each in tree.iter(f"{SVG}text")}


def test_charts_are_drawn_from_what_was_measured() -> None:
    figure: dict[str, Any] = {
        "name": "figure_6b_25",
        "ours": 2.0,
        "reference": 0.5,
        "shapes": {"mask_ratio": 25},
    }
    sizes = {"images": 10, "MiB": 300, "images_large": 200, "MiB_large": 303}
    memory: dict[str, Any] = {"name": "growth_memory_shard", "ours": 1.01, "reference": None, "shapes": sizes}
    missing: dict[str, Any] = {"name": "figure_6b_50", "ours": None, "reference": None, "shapes": {}}
    found = charts([figure, memory, missing])
    assert sorted(found) == ["figure_6b.svg", "growth_memory.svg"] and not charts([missing])
    assert "recomputed" in found["figure_6b.svg"] and ">shard<" in found["growth_memory.svg"]
